"""A plan in words, term by term: for the terminal before anything large is begun, and for the page."""

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.text import Text

from undistill.base.table import Table
from undistill.fit.budget import STARTING_S, Amounts, Speeds, parts_of
from undistill.fit.evidence import Choice, GpuRecipe, gpu_recipe
from undistill.fit.here import free_disk, gpu_memory
from undistill.fit.plan import DRAW, GAP, MEASURE, TRAIN
from undistill.fit.source import Images
from undistill.pairs.plan import PairsPlan, gigabytes, placed
from undistill.report.words import duration

Facts = dict[str, str]


def image_facts(images: Images, count: int) -> Facts:
    """How many there are of what, and how they are divided."""
    parts = parts_of(count)
    measured = round(parts.share * count)
    return {
        "Images": f"{count:,} {images.words}, {images.size} px: {measured:,} to measure on, which training never sees "
        f"({parts.measured} of the hash of their ids), the rest to train on"
    }


def drawing_facts(made: PairsPlan, count: int, out: Path) -> Facts:
    """What drawing so many pairs takes of this machine."""
    held = [network.held for network in made.networks]
    gpu = gpu_memory()
    if gpu is None:
        memory = f"{gigabytes(sum(held))} for the networks; there is no GPU here"
    else:
        offload, _ = placed(made.spec, made.networks, made.work, gpu)
        words = {"none": "all networks stay on it", "model": "one network at a time", "group": "block by block"}
        memory = (
            f"the GPU has {gigabytes(gpu)}: {words[offload]} (--offload {offload}); the networks take "
            f"{gigabytes(sum(held))}"
        )
    return {
        "Download": gigabytes(made.download) if made.download else "nothing",
        "Disk": f"{gigabytes(made.storage / made.count * count)} for the pairs, {gigabytes(free_disk(out))} are free",
        "Memory": memory,
    }


def recipe_facts(choice: Choice, name: str, large: GpuRecipe | None) -> Facts:
    """By which recipe, and why."""
    text = f"{name}: {choice.why} ({choice.source})"
    if large is not None:
        text += (
            f". That was {choice.name}; {name} is the same at 512 px for this GPU: batches of {large.batch}, "
            f"{gigabytes(large.memory)}, computed, not measured"
        )
    return {"Recipe": text}


def time_facts(amounts: Amounts, speeds: Speeds, left: Collection[str]) -> Facts:
    """How long each stage will take, and when all is done.

    Args:
        left: stages that are not done. One that is begun counts as a whole.
    """
    stages = {
        "drawing": amounts.draw_s if DRAW in left else 0.0,
        "training": amounts.train_s if TRAIN in left else 0.0,
        "measuring": amounts.measure_s if {GAP, MEASURE} & set(left) else 0.0,
    }
    done = datetime.now().astimezone() + timedelta(seconds=sum(stages.values()) + STARTING_S)
    workers = f" ({speeds.workers} workers)" if speeds.workers > 1 else ""
    pair = f"{speeds.pair:.3g} s a pair{workers}, " if speeds.pair else ""
    spans = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stages.items() if seconds)
    return {
        "Steps": f"{amounts.steps:,} of training",
        "Speed": f"{pair}{speeds.step:.3g} s a step, {speeds.look:.2g} s for the features of an image; {speeds.how}",
        "Time": f"{spans}: done about {done:%H:%M on %Y-%m-%d}" if spans else "all is done",
    }


def gpu_table(made: PairsPlan, steps: int) -> Table:
    """What drawing and training take on GPUs that people have: computed."""
    rows = []
    for on in made.gpus:
        recipe = gpu_recipe(on.gpu.memory)
        train_s = steps * recipe.batch / recipe.images_s[on.gpu.name]
        draw_s = made.count * on.pair_s
        rows.append(
            (
                on.gpu.name,
                on.offload,
                duration(draw_s),
                recipe.name,
                str(recipe.batch),
                gigabytes(recipe.memory),
                duration(train_s),
            )
        )
    return Table(("GPU", "offload", "drawing", "recipe", "batch", "its memory", "training"), rows)


def show_facts(facts: Facts, console: Console) -> None:
    """Print them."""
    for term, text in facts.items():
        console.print(Text(f"{term}: {text}"))
