"""The page of `undistill reproduce`: the paper's tables and figures, ours beside the paper's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undistill.report import findings, words, write_html
from undistill.report.findings import OURS
from undistill.report.pictures import Triple, data_uri, embedded
from undistill.report.table import Column, make_chart, make_table
from undistill.report.words import Figure, NumberFormat, decimals, interval_text, milliseconds, percent

DISTANCE_COLUMNS = (
    Column("gap_closed", "Gap closed", percent, "more"),
    Column("fd_student", "FD to student", decimals(2)),
    Column("fd_teacher", "FD to teacher", decimals(2), "less"),
    Column("fd_diff", "FD_diff", decimals(2)),
    Column("kid_teacher", "KID to teacher", decimals(4), "less"),
    Column("clip_iqa", "CLIP-IQA", decimals(3), "more"),
    Column("blur_effect", "Blur effect", decimals(3), "less"),
)
LIKENESS_COLUMNS = (
    Column("lpips_student", "LPIPS to student", decimals(4)),
    Column("ssim_student", "SSIM to student", decimals(3)),
    Column("psnr_student", "PSNR, dB", decimals(1)),
    Column("identity", "Identity", decimals(3), "more"),
    Column("identity_rank1", "Rank 1", percent, "more"),
    Column("faces_missing", "Faces lost", decimals(0), "less"),
    Column("periodic", "Periodic, dB", decimals(2), "less"),
)
REAL_COLUMNS = (
    Column("gap_closed", "Gap closed", percent, "more"),
    Column("kid_teacher", "KID to teacher", decimals(4), "less"),
    Column("lpips_student", "LPIPS to student", decimals(3)),
    Column("identity", "Identity", decimals(3), "more"),
    Column("identity_rank1", "Rank 1", percent, "more"),
)
ABLATION_COLUMNS = (
    Column("gap_closed", "Gap closed", percent, "more"),
    Column("kid_teacher", "KID to teacher", decimals(4), "less"),
    Column("lpips_student", "LPIPS to student", decimals(4)),
    Column("blur_effect", "Blur effect", decimals(3), "less"),
)


@dataclass(frozen=True)
class Grid:
    """A table of texts: headings, and lines of cells, each a text and what stands small below it."""

    headings: Sequence[str]
    lines: Sequence[Sequence[tuple[str, str]]]


def write_reproduce_page(results: dict[str, Any], persons: Sequence[Triple], folder: Path, path: Path) -> None:
    """Draw the page from results.json, and from the pictures beside it.

    Args:
        results: what results.json holds.
        persons: of figure 1.
        folder: where the figures are.
    """
    quality, settings = results["quality"], results["settings"]
    first = quality[0]["found"]
    ablation = None if results["ablation"] is None else results["ablation"]["report"]["rows"]
    real = results["real"]
    write_html(
        "reproduce.html",
        path,
        title=f"undistill reproduce: {settings['pair']}",
        settings=settings,
        versions=results["versions"],
        paper=results["paper"],
        best=OURS,
        learnable=findings.learnable(results),
        similar=findings.similar(results),
        persons=persons,
        data_uri=data_uri,
        pictures={
            file.name: embedded(file)
            for file in (
                *(folder / f"figure-{number}.png" for number in (2, 7)),
                *(folder / "diversity" / name for name in results["diversity"]["figures"].values()),
                folder / "bench" / "bench.png",
            )
        },
        diversity=results["diversity"],
        entropies=entropies_grid(results["diversity"], results["paper"]),
        shares=shares_grid(results["diversity"]),
        diverse=findings.diversity_sentences(results),
        studies=sweep_grids(results["sweep"]),
        sweep=results["sweep"],
        chart=make_chart(first["rows"]),
        measured=first["settings"],
        tables=[
            make_table(first["rows"], first["settings"], columns, settings["rows"])
            for columns in (DISTANCE_COLUMNS, LIKENESS_COLUMNS)
        ],
        closed=closed_grid(quality),
        agreement=findings.agreement(results),
        blur=findings.blur(first["rows"]),
        ablation=results["ablation"],
        ablated=None if ablation is None else ablation_grid(ablation),
        ablation_says=findings.ablation(ablation) if ablation is not None else None,
        fd_diff=findings.fd_diff(first["rows"], ablation or {}),
        real=real,
        real_table=None if real is None else make_table(real["rows"], real["settings"], REAL_COLUMNS),
        real_says=None if real is None else words.gap_sentence(real["rows"], "flux1-lite"),
        cost=cost_grid(results["bench"], settings),
        cheaper=findings.cheaper(results),
        machine=results["bench"]["settings"]["machine"],
        steps=results["steps"],
        commands=lambda *parts: [step for step in results["steps"] if step["part"] in parts],
        minutes=lambda seconds: f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s",
    )


def entropies_grid(diversity: Mapping[str, Any], paper: Mapping[str, Any]) -> Grid:
    """Table 1."""
    rows, differences, tests = (diversity[key] for key in ("rows", "differences", "tests"))
    known = paper["table_1"]
    lines = []
    for attribute in ("gender", "age", "ethnicity"):
        metric = f"{attribute}_entropy"
        test = tests["names"].get(attribute)
        said = known.get(metric)
        theirs = f"{said['business']} to {said['names']}" if said else "rises" if attribute in known["rises"] else ""
        lines.append(
            [
                (f"perceived {attribute}", ""),
                *(_cell(rows[group][metric], decimals(3)) for group in ("business", "names")),
                _cell(differences["names"][metric], decimals(3)),
                ("n/a" if test is None else f"{test['p_entropy']:.2g}", ""),
                (theirs, ""),
            ]
        )
    distance = [_cell(rows[group]["distance"], decimals(3)) for group in ("business", "names")]
    change = _cell(differences["names"]["distance"], decimals(3))
    lines.append([("mean distance of faces", ""), *distance, change, ("", ""), ("", "")])
    found = [rows[group]["faces_missing"] for group in ("business", "names")]
    counts = [(f"{one['n'] - one['value']:.0f} of {one['n']}", "") for one in found]
    lines.append([("faces found", ""), *counts, ("", ""), ("", ""), ("", "")])
    return Grid(("entropy, of its maximum", "business", "names", "difference", "p", "the paper"), lines)


def shares_grid(diversity: Mapping[str, Any]) -> Grid:
    """The classes that the entropies of table 1 are of."""
    rows = diversity["rows"]
    classes = [
        metric
        for metric, figure in rows["names"].items()
        if "_" in metric and not metric.endswith(("_entropy", "_missing")) and figure["value"] is not None
    ]
    return Grid(
        ("share", "business", "names"),
        [
            [(metric.replace("_", ": "), ""), *(_cell(rows[group][metric], percent) for group in ("business", "names"))]
            for metric in classes
        ],
    )


def sweep_grids(sweep: Mapping[str, Any] | None) -> dict[str, Grid]:
    """Tables 2 and 3, by study: a line for each lambda, a column for each learning rate."""
    if sweep is None:
        return {}
    return {name: _sweep(study["cells"]) for name, study in sweep["report"]["studies"].items()}


def _sweep(cells: Sequence[Mapping[str, Any]]) -> Grid:
    rates = list(dict.fromkeys(cell["cell"].get("lr") for cell in cells))
    headings = ["lambda", *("loss, SSIM" if rate is None else f"lr {rate:g}: loss, SSIM" for rate in rates)]
    lines = []
    for cycle in dict.fromkeys(cell["cell"]["cycle"] for cell in cells):
        by_rate = {cell["cell"].get("lr"): cell for cell in cells if cell["cell"]["cycle"] == cycle}
        lines.append([(f"{cycle:g}", ""), *(_trained(by_rate[rate]) for rate in rates)])
    return Grid(headings, lines)


def _trained(cell: Mapping[str, Any]) -> tuple[str, str]:
    if cell["loss"] is None or cell["ssim"] is None:
        return cell["state"], ""
    return f"{cell['loss']:.4f}, {cell['ssim']:.4f}", f"{cell['step']} steps"


def closed_grid(quality: Sequence[Mapping[str, Any]]) -> Grid:
    """Gap closed of every row, by extractor and draw."""
    rows = [name for name in quality[0]["found"]["rows"] if name not in ("student", "teacher")]
    headings = ("gap closed", *(f"{one['features']}, draw {one['draw']}" for one in quality))
    lines = []
    for name in rows:
        cells = [
            _cell(one["found"]["rows"][name]["gap_closed"], percent) if name in one["found"]["rows"] else ("", "")
            for one in quality
        ]
        lines.append([(name, ""), *cells])
    return Grid(headings, lines)


def ablation_grid(rows: Mapping[str, Any]) -> Grid:
    """Section 5.1."""
    return Grid(
        ("beside LPIPS", *(column.heading for column in ABLATION_COLUMNS)),
        [
            [(word, ""), *(_cell(rows[name][column.metric], column.say) for column in ABLATION_COLUMNS)]
            for name, word in findings.ABLATED.items()
        ],
    )


def cost_grid(bench: Mapping[str, Any], settings: Mapping[str, Any]) -> Grid:
    """Figure 6 in figures: student, with our head, teacher."""
    head = settings["timed"]
    ways = {"student": "student", head: f"student, {head}", "teacher": "student, teacher"}
    lines = [
        [
            (f"{size} px: {way}", ""),
            _cell(rows[name]["seconds"], milliseconds),
            _cell(rows[name].get("share"), percent),
            _cell(rows[name].get("saved"), percent),
        ]
        for size, rows in bench["cost"].items()
        for name, way in ways.items()
        if name in rows
    ]
    return Grid(("way", "an image, median", "head's share", "saved against the teacher"), lines)


def _cell(figure: Figure | None, say: NumberFormat) -> tuple[str, str]:
    if figure is None:
        return "", ""
    if figure["value"] is None:
        return "n/a", ""
    return say(figure["value"]), interval_text(figure, say)
