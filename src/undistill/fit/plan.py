"""What is run for a head: the project's own commands, in order, by paths from the output folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undistill.fit.budget import Parts, parts_of
from undistill.fit.evidence import AND_BY
from undistill.fit.request import Request
from undistill.metrics import OWN_ROWS
from undistill.steps import PlanStep, plan_step

SEED = 1
PROMPTS, PAIRS = "prompts.jsonl", "pairs"
DRAW, GAP, TRAIN, MEASURE = "draw", "gap", "train", "measure"
"""The stages, as the page calls them."""
ALL = (DRAW, GAP, TRAIN, MEASURE)


@dataclass(frozen=True)
class Training:
    """What is trained by.

    Args:
        recipe: as `undistill train` takes it.
        changes: to it, by key.
        min_side: of images in folders, px.
    """

    recipe: str
    changes: Mapping[str, Any]
    min_side: int = 0


@dataclass(frozen=True)
class FitPlan:
    """A head's steps, and where they leave what they make.

    Args:
        images: pairs, or student images in a folder.
        paired: both sides show the same persons.
        steps: of training.
        name: of the head's row.
    """

    request: Request
    images: int
    paired: bool
    steps: int
    training: Training
    batch: int
    name: str

    @property
    def parts(self) -> Parts:
        """How the images are divided."""
        return parts_of(self.images)

    @property
    def run(self) -> str:
        """The folder of the training run: more pairs or steps are another run."""
        return f"runs/{self.training.recipe.replace('/', '-')}-{self.images}x{self.steps}"

    @property
    def enhanced(self) -> str:
        """Where the enhanced images are."""
        return f"enhanced/{Path(self.run).name}"

    @property
    def gap(self) -> str:
        """What filters close of the gap: known before anything is trained."""
        return f"gap-{self.images}.json"

    @property
    def results(self) -> str:
        """What the head closes; `undistill card` looks for it there."""
        return f"{self.run}/results.json"

    @property
    def seen_by(self) -> Mapping[str, str]:
        """The same, as each further extractor sees it."""
        return {features: f"{self.run}/results-{features}.json" for features in AND_BY}

    @property
    def data(self) -> Sequence[str]:
        """The images, as `train` and `evaluate` take them."""
        request = self.request
        if request.student is not None:
            teachers = [word for teacher in request.teacher for word in ("--teacher", teacher)]
            return ("--student", request.student, *teachers)
        return ("--data", request.data or PAIRS)

    def all_steps(self) -> list[PlanStep]:
        """Every step of it."""
        return [*self.drawing(), self.measuring_gap(), *self.making_head()]

    def drawing(self) -> list[PlanStep]:
        """The images; none where they are there."""
        return drawing(self.request, self.images, self.batch)

    def measuring_gap(self) -> PlanStep:
        """Student, teacher and filters, without a head."""
        return plan_step(GAP, self.gap, "evaluate", *self._measured(), "-o", self.gap, "--overwrite")

    def making_head(self) -> list[PlanStep]:
        """Training, and what is made of the head."""
        parts, changes = self.parts, {**self.training.changes, "data.val": self.parts.val, "steps": self.steps}
        settings = [word for key, value in changes.items() for word in ("--set", f"{key}={_text(value)}")]
        request, head = self.request, f"{self.run}/head"
        students = request.student or request.data or PAIRS
        form = ("--format", "png") if request.student is not None else ()
        measured = ("evaluate", *self._measured(), "--enhanced", f"{self.name}={self.enhanced}", "--overwrite")
        results = [word for path in (self.results, *self.seen_by.values()) for word in ("--results", path)]
        return [
            plan_step(
                *(TRAIN, self.run, "train", self.training.recipe, *self.data, "--split", parts.train),
                *(*settings, "-o", self.run),
            ),
            plan_step(
                *(MEASURE, self.enhanced, "enhance", students, "--head", head, "--split", parts.measured),
                *(*form, "-o", self.enhanced),
            ),
            plan_step(MEASURE, self.results, *measured, "-o", self.results),
            *(
                plan_step(MEASURE, path, *measured, "--features", features, "-o", path)
                for features, path in self.seen_by.items()
            ),
            plan_step(MEASURE, f"{head}/README.md", "card", self.run, *results, "-o", f"{head}/README.md"),
        ]

    def _measured(self) -> Sequence[str]:
        small = ("--min-side", str(self.training.min_side)) if self.training.min_side and self.request.student else ()
        return (*self.data, "--split", self.parts.measured, *small)


def drawing(request: Request, count: int, batch: int) -> list[PlanStep]:
    """The first pairs of a request; more of them begin with the same ones."""
    if request.pair is None:
        return []
    names = () if request.names is None else ("--names", request.names)
    return [
        plan_step(
            *(DRAW, PROMPTS, "prompts", "--count", count, "--seed", SEED, "--template", request.domain),
            *(*names, "-o", PROMPTS, "--overwrite"),
        ),
        plan_step(
            *(DRAW, PAIRS, "pairs", "create", "--pair", request.pair, "--prompts", PROMPTS, "--limit", count),
            *("--batch", batch, "-o", PAIRS),
        ),
    ]


def row_name(out: Path) -> str:
    """What the head's row is called: as its folder, where that is a name for a row."""
    name = out.resolve().name
    return name if name and "=" not in name and name not in OWN_ROWS else "head"


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
