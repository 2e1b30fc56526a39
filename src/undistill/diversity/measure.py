"""Groups of portraits side by side: what faces there are in each, and how far apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from undistill.base.errors import UsageError
from undistill.dataset.samples import Sample, list_files, list_shard_images
from undistill.dataset.shard import Pairs
from undistill.diversity.attributes import BELOW, CLASSES, classes_of, load_attributes
from undistill.diversity.embedding import (
    FEWEST_FACES,
    FacePair,
    load_embedding,
    map_faces,
    mean_distance,
    nearest_pairs,
    perplexity,
)
from undistill.diversity.figures import write_map, write_pairs
from undistill.diversity.results import Diversity
from undistill.diversity.shares import (
    RESAMPLES,
    TABLES,
    Counts,
    count_by_id,
    difference_test,
    entropy_difference,
    entropy_value,
    shares,
)
from undistill.metrics.extraction import Extractor, Features, extract
from undistill.metrics.jackknife import Value, Vector, groups_of, interval
from undistill.metrics.results import MetricRow

PAIRS = 8
"""Nearest pairs of each group that are shown."""

JSON, MAP, NEAREST = "diversity.json", "map.png", "nearest.png"


@dataclass(frozen=True)
class Group:
    """A set of images, and what was seen in them.

    Args:
        classes: of each image by attribute; {} without a face.
        faces: (n, D), the embeddings of the faces.
        shown: the images that `faces` were found in.
    """

    samples: Sequence[Sample]
    classes: Sequence[Mapping[str, str]]
    faces: Features
    shown: Sequence[Sample]


def measure_diversity(
    folders: Mapping[str, Path],
    out: Path,
    data: Path | None = None,
    split: tuple[float, float] = (0.0, 1.0),
    attributes: str = "dlib",
    embedding: str = "dlib",
    seed: int = 0,
) -> Diversity:
    """Measure the diversity of each group, and how it differs from that of the first.

    Writes OUT/diversity.json, OUT/map.png and OUT/nearest.png. Killed and called again it goes on: what was seen in an
    image is kept in the cache.

    Args:
        folders: of images, by the name of the group.
        data: a pairs data set, whose sides are groups too, `student` and `teacher`, before the others.
        split: the part of the ids that is measured.
        attributes: who estimates them: `undistill.diversity.attributes.load_attributes`.
        embedding: `undistill.diversity.embedding.load_embedding`.
        seed: of resampling, tests and map.

    Raises:
        UsageError: no group, one without images or a name given twice, no face in any, or an image can't be read.
        Failure: what it needs is not installed, or weights can't be had.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; -o takes a folder")
    listed = _list(folders, data, split)
    estimator, embedder = load_attributes(attributes), load_embedding(embedding)
    groups = {name: _look(name, samples, estimator, embedder) for name, samples in listed.items()}
    if not any(len(group.faces) for group in groups.values()):
        raise UsageError(f"no face was found in any of the {sum(map(len, listed.values()))} images: nothing to measure")

    ids = sorted({sample.id for samples in listed.values() for sample in samples})
    results = Diversity(
        settings={
            "groups": {name: str(folder) for name, folder in folders.items()},
            "data": None if data is None else str(data),
            "split": list(split),
            "attributes": estimator.name,
            "embedding": embedder.name,
            "seed": seed,
            "resamples": RESAMPLES,
            "tables": TABLES,
            "date": datetime.now(UTC).date().isoformat(),
        }
    )
    for name, group in groups.items():
        results.rows[name] = {"faces_missing": Value(len(group.samples) - len(group.faces), n=len(group.samples))}
        results.counts[name] = {}
    _compare_attributes(results, groups, ids, seed, f"{estimator.name} does not estimate it")
    _compare_distances(results, groups, ids)
    _draw(results, groups, out, seed)
    results.write(out / JSON)
    return results


def _list(folders: Mapping[str, Path], data: Path | None, split: tuple[float, float]) -> dict[str, Sequence[Sample]]:
    listed: dict[str, Sequence[Sample]] = {}
    if data is not None:
        pairs = Pairs(data)
        listed = {side: list_shard_images(pairs, side, split) for side in ("student", "teacher")}
    for name, folder in folders.items():
        if name in listed:
            raise UsageError(f"{name} is a side of --data: give {folder} another name")
        listed[name] = list_files([folder], split)
    if not listed:
        raise UsageError("nothing to measure: give NAME=DIR, or --data")
    return listed


def _look(name: str, samples: Sequence[Sample], estimator: Extractor, embedder: Extractor) -> Group:
    seen = extract(name, samples, (estimator, embedder))
    classes = [classes_of(attributes) for attributes in seen[estimator.name]]
    faces = seen[embedder.name]
    shown = [sample for sample, face in zip(samples, faces, strict=True) if len(face)]
    return Group(samples, classes, np.concatenate(faces), shown)


def _compare_attributes(
    results: Diversity, groups: Mapping[str, Group], ids: Sequence[str], seed: int, unknown: str
) -> None:
    """Counts, shares and entropy of each attribute; differences and tests to the first group."""
    places = {id: place for place, id in enumerate(ids)}
    for attribute, names in CLASSES.items():
        first: Counts | None = None
        for name, group in groups.items():
            seen = [classes.get(attribute) for classes in group.classes]
            images = list(zip((sample.id for sample in group.samples), seen, strict=True))
            counts = count_by_id(images, places, names)
            known = counts.sum(0).astype(int).tolist()
            results.counts[name][attribute] = dict(zip(names, known, strict=True)) | (
                {BELOW: seen.count(BELOW)} if attribute == "age" else {}
            )
            why = "no face found" if not any(group.classes) else "no face in these classes" if any(seen) else unknown
            row = results.rows[name]
            for label, value in shares(counts, names, why).items():
                row[f"{attribute}_{label}"] = value
            entropy = f"{attribute}_entropy"
            row[entropy] = entropy_value(counts, seed, why)
            if first is None:
                first = counts
                continue
            differences: MetricRow = results.differences.setdefault(name, {})
            differences[entropy] = entropy_difference(first, counts, seed, why)
            results.tests.setdefault(name, {})[attribute] = difference_test(first.sum(0), counts.sum(0), seed)


def _compare_distances(results: Diversity, groups: Mapping[str, Group], ids: Sequence[str]) -> None:
    """Mean distance between the faces of each group; differences to the first."""
    left_out = groups_of(ids)
    count = max(left_out.values()) + 1
    first: Vector | None = None
    first_n = 0
    for name, group in groups.items():
        n = len(group.faces)
        theta = mean_distance(group.faces, [left_out[sample.id] for sample in group.shown], count)
        results.rows[name]["distance"] = _value(theta, n)
        if first is None:
            first, first_n = theta, n
        else:
            results.differences[name]["distance"] = _value(theta - first, min(n, first_n))


def _value(theta: Vector, n: int) -> Value:
    if np.isfinite(theta[0]) and not np.isfinite(theta).all():  # two faces: none are left without one
        return Value(float(theta[0]), n=n)
    return interval(theta, n) if n > 1 else Value(None, n=n, why="fewer than two faces")


def _draw(results: Diversity, groups: Mapping[str, Group], out: Path, seed: int) -> None:
    near: dict[str, list[FacePair]] = {}
    for name, group in groups.items():
        near[name] = nearest_pairs(group.faces, PAIRS)
        results.nearest[name] = [
            {"images": [group.shown[pair.one].name, group.shown[pair.other].name], "distance": pair.distance}
            for pair in near[name]
        ]
    if any(near.values()):
        write_pairs(out / NEAREST, near, {name: group.shown for name, group in groups.items()})
        results.figures["nearest"] = NEAREST
    faces = np.concatenate([group.faces for group in groups.values() if len(group.faces)])
    if len(faces) < FEWEST_FACES:
        results.notes.append(f"no map of the faces: {len(faces)} are too few, it takes {FEWEST_FACES}")
        return
    results.settings["perplexity"] = perplexity(len(faces))
    write_map(
        out / MAP,
        map_faces(faces, seed),
        [sample for group in groups.values() for sample in group.shown],
        [name for name, group in groups.items() for _ in group.shown],
        f"t-SNE of {results.settings['embedding']}, perplexity {perplexity(len(faces)):.3g} "
        f"(openTSNE {version('openTSNE')}, seed {seed})",
    )
    results.figures["map"] = MAP
