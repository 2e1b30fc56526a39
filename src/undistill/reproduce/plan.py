"""What is run for the tables and figures of arXiv 2505.02255: the project's own commands, in order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from undistill.base.errors import UsageError
from undistill.heads import shipped_heads
from undistill.pairs.spec import PairSpec
from undistill.prompts import BUSINESS_TEMPLATE
from undistill.report.findings import OURS
from undistill.steps import PlanStep, plan_step

SEED = 1
LORA = "realism-lora"
"""The row of the student with a realism LoRA, the paper's baseline."""
FEATURES = ("efficientnet-lite0", "alex-2")
"""Two extractors. The losses look at the second's network, so that the first is the one to quote."""
DRAWS = (1, 2)
"""Two draws: other people, other seeds."""
ABLATION_ROWS = {"ablation-l1": "l1", "ablation-none": "none"}
"""Rows of the paper's section 5.1, by what stands in GRAD's place."""


@dataclass(frozen=True)
class PairSetup:
    """What stands for the paper's rows.

    Args:
        heads: shipped heads by the name of their row.
        recipes: files in the folder of recipes that train them, by row.
        sweep: the file there for tables 2 and 3.
        lora: the pair whose student has a realism LoRA.
        seen: prompts of seed SEED that the shipped heads were trained on: what is measured comes after.
        train_on: pairs to train on.
        batch: images at a time.
        sizes: of figure 6, px.
    """

    heads: Mapping[str, str]
    recipes: Mapping[str, str] = field(default_factory=dict)
    sweep: str | None = None
    lora: str | None = None
    seen: int = 0
    train_on: int = 0
    batch: int = 4
    sizes: str = "256,512,1024"


SETUPS = {
    "tiny": PairSetup(
        heads={
            "pairwise": "tiny-unet",
            "cyclegan": "tiny-cyclegan",
            "esa-cyclegan": "tiny-esa",
            OURS: "tiny-best",
        },
        recipes={
            "pairwise": "unet.yaml",
            "cyclegan": "cyclegan.yaml",
            "esa-cyclegan": "esa.yaml",
            OURS: "best.yaml",
        },
        sweep="sweep.yaml",
        lora="tiny-realism",
        seen=10_000,
        train_on=10_000,
        batch=32,
        sizes="64,128,256,512",
    ),
    "flux1": PairSetup(
        heads={OURS: "flux1"},
        recipes={
            "pairwise": "paper-unet.yaml",
            "cyclegan": "paper-cyclegan.yaml",
            "esa-cyclegan": "paper-esa-cyclegan.yaml",
        },
        sweep="paper-sweep.yaml",
        lora="flux1-realism",
        train_on=140_000,
    ),
}
"""By pair; of any other, its own head alone."""


@dataclass(frozen=True)
class RunSize:
    """How much is measured.

    Args:
        pairs: of each draw.
        split: what of them is measured; space and filters are fitted on the rest.
        limit: of each of the two parts.
        faces: in a group of table 1.
        max_steps: of each training; None: the recipe's.
        sizes: of figure 6, px; None: the setup's.
        rounds: of timing; None: as the command has it.
        real: real images a side; None: all.
    """

    pairs: int
    split: str
    faces: int
    limit: int | None = None
    max_steps: int | None = None
    sizes: str | None = None
    rounds: int | None = None
    real: int | None = None


FULL = RunSize(pairs=2_200, split="0:0.5", limit=1_000, faces=500)
QUICK = RunSize(pairs=120, split="0.333333:1", faces=60, max_steps=10, sizes="64,128", rounds=6, real=16)


def plan_steps(spec: PairSpec, pair: str, size: RunSize, train: Path | None, portraits: Path | None) -> list[PlanStep]:
    """All steps; each takes what those before it have made, by paths from the output folder.

    Args:
        pair: as `read_spec` takes it, from any folder.
        train: a folder of recipes to train the heads, the ablation and the sweep by; None: shipped and stored ones.
        portraits: a folder with tiles/schnell, tiles/dev and tiles/pro: real images of FLUX.1.

    Raises:
        UsageError: the pair has no head, or is to be trained without recipes.
    """
    setup = setup_of(spec)
    if train:
        _check_recipes(setup, spec.name, train)
    if not rows_of(setup, train, DRAWS[0]):
        raise UsageError(f"the pair {spec.name} has no head of its own: name one in its spec (head: ...)")
    steps = [*(_training(setup, pair, size, train) if train else ()), *_diversity(setup, pair, size, train)]
    for draw in DRAWS:
        steps += _quality(setup, pair, size, train, draw)
    steps += _bench(setup, pair, size)
    return [*steps, *(_real(portraits, size) if portraits else ())]


def _check_recipes(setup: PairSetup, pair: str, train: Path) -> None:
    if not setup.recipes:
        raise UsageError(f"there are no recipes for the pair {pair}: leave --train out")
    for recipe in (*setup.recipes.values(), *([setup.sweep] if setup.sweep else [])):
        if not (train / recipe).is_file():
            raise UsageError(f"{train} holds no {recipe}: --train takes the folder of the pair's recipes")


def _trained_on(setup: PairSetup, size: RunSize) -> int:
    return setup.train_on if size.max_steps is None else size.pairs


def _seen(setup: PairSetup, size: RunSize, train: Path | None) -> int:
    """How many prompts of seed SEED a head may have been trained on."""
    return max(setup.seen, _trained_on(setup, size) if train else 0)


def setup_of(spec: PairSpec) -> PairSetup:
    """What stands for the paper's rows with this pair."""
    return SETUPS.get(spec.name) or PairSetup(heads={OURS: spec.head} if spec.head else {})


def rows_of(setup: PairSetup, train: Path | None, draw: int) -> dict[str, str]:
    """Heads by row; the ablation's, where they are trained, in the first draw."""
    if train is None:
        return dict(setup.heads)
    ablation = ABLATION_ROWS if draw == DRAWS[0] and "pairwise" in setup.recipes else {}
    return {**setup.heads, **{row: f"runs/{row}/head" for row in (*setup.recipes, *ablation)}}


def folder_of(row: str, draw: int) -> str:
    """Where a row's images are."""
    return f"draw-{draw}/{row}"


def results_of(features: str, draw: int) -> str:
    """Where the results of an extractor and a draw are."""
    return f"draw-{draw}/{features}.json"


def _training(setup: PairSetup, pair: str, size: RunSize, train: Path) -> Iterator[PlanStep]:
    part = "training"
    few = () if size.max_steps is None else ("--max-steps", size.max_steps)
    count = _trained_on(setup, size)
    yield plan_step(part, "seen.jsonl", "prompts", "--count", count, "--seed", SEED, "-o", "seen.jsonl")
    yield _create(part, pair, setup.batch, "seen.jsonl", "seen")
    for row, recipe in setup.recipes.items():
        yield plan_step(part, f"runs/{row}", "train", train / recipe, "--data", "seen", "-o", f"runs/{row}", *few)
    for row, structure in ABLATION_ROWS.items() if "pairwise" in setup.recipes else ():
        yield plan_step(
            *("ablation", f"runs/{row}", "train", train / setup.recipes["pairwise"], "--data", "seen"),
            *("--set", f"structure={structure}", "-o", f"runs/{row}", *few),
        )
    if setup.sweep:
        yield plan_step("sweep", "sweep", "sweep", "run", train / setup.sweep, "--data", "seen", "-o", "sweep", *few)
        yield plan_step("sweep", "sweep/report.json", "sweep", "report", "sweep")


def _create(part: str, pair: str, batch: int, prompts: str, out: str) -> PlanStep:
    return plan_step(part, out, "pairs", "create", "--pair", pair, "--prompts", prompts, "--batch", batch, "-o", out)


def _diversity(setup: PairSetup, pair: str, size: RunSize, train: Path | None) -> Iterator[PlanStep]:
    part = "diversity"
    count = ("--count", size.faces, "--seed", SEED)
    yield plan_step(part, "business.jsonl", "prompts", *count, "--template", BUSINESS_TEMPLATE, "-o", "business.jsonl")
    yield plan_step(part, "names.jsonl", "prompts", *count, "--skip", _seen(setup, size, train), "-o", "names.jsonl")
    for group in ("business", "names"):
        yield _raw(part, pair, setup.batch, f"{group}.jsonl", group)
    yield plan_step(part, "diversity", "diversity", "business=business", "names=names", "-o", "diversity")


def _raw(part: str, pair: str, batch: int, prompts: str, out: str) -> PlanStep:
    return plan_step(part, out, "generate", "--pair", pair, "--prompts", prompts, "--raw", "--batch", batch, "-o", out)


def _quality(setup: PairSetup, pair: str, size: RunSize, train: Path | None, draw: int) -> Iterator[PlanStep]:
    part, prompts, pairs = f"draw {draw}", f"draw-{draw}/prompts.jsonl", folder_of("pairs", draw)
    skip = _seen(setup, size, train) + (draw - 1) * size.pairs
    yield plan_step(part, prompts, "prompts", "--count", size.pairs, "--skip", skip, "--seed", SEED, "-o", prompts)
    yield _create(part, pair, setup.batch, prompts, pairs)
    rows = list(rows_of(setup, train, draw))
    if setup.lora:
        yield _raw(part, setup.lora, setup.batch, prompts, folder_of(LORA, draw))
        rows.insert(0, LORA)
    for row, head in rows_of(setup, train, draw).items():
        out = folder_of(row, draw)
        yield plan_step(part, out, "enhance", pairs, "--head", head, "--split", size.split, "-o", out)
    enhanced = [word for row in rows for word in ("--enhanced", f"{row}={folder_of(row, draw)}")]
    limit = () if size.limit is None else ("--limit", size.limit)
    for features in FEATURES:
        out = results_of(features, draw)
        yield plan_step(
            *(part, out, "evaluate", "--data", pairs, "--split", size.split, *limit),
            *("--features", features, *enhanced, "-o", out),
        )


def _bench(setup: PairSetup, pair: str, size: RunSize) -> Iterator[PlanStep]:
    sizes = size.sizes or setup.sizes
    few = () if size.rounds is None else ("--rounds", size.rounds)
    own = setup.heads[OURS]
    heads = ("--heads", "all", *(() if own in shipped_heads() else ("--heads", own)))
    yield plan_step("cost", "bench", "bench", "--pair", pair, "--sizes", sizes, *heads, *few, "-o", "bench")


def _real(portraits: Path, size: RunSize) -> Iterator[PlanStep]:
    tiles, split = portraits / "tiles", "0.5:1"
    few = () if size.real is None else ("--limit", size.real)
    out = "real/flux1-lite"
    yield plan_step("real", out, "enhance", tiles / "schnell", "--head", "flux1-lite", "--split", split, "-o", out)
    yield plan_step(
        *("real", "real/results.json", "evaluate", "--student", tiles / "schnell"),
        *("--teacher", tiles / "dev", "--teacher", tiles / "pro", "--enhanced", f"flux1-lite={out}"),
        *("--split", split, "--min-side", "400", *few, "-o", "real/results.json"),
    )
