"""What a reproduction found, in plain words: they say what the intervals allow, whichever way it turns out."""

from collections.abc import Mapping, Sequence
from typing import Any

from undistill.metrics import BASELINES
from undistill.report.words import (
    Figure,
    Rows,
    above_filters,
    decimals,
    interval_text,
    percent,
    with_interval,
)

OURS = "ours"
"""The row of every pair's own head."""

Findings = Mapping[str, Any]
"""What results.json of a reproduction holds."""


def enhanced_rows(rows: Rows) -> list[str]:
    """Rows that were drawn or enhanced for this."""
    return [name for name in rows if name not in ("student", "teacher", *BASELINES)]


def learnable(found: Findings) -> str:
    """The paper's first hypothesis: the difference of student and teacher can be learned.

    It holds where a head's interval lies above 0 and above every filter's; with two extractors and two draws, where it
    does so each time.
    """
    quality: Sequence[Findings] = found["quality"]
    names = found["settings"]["heads"]
    times = {name: sum(_beats_filters(one["found"]["rows"], name) for one in quality) for name in names}
    always = [name for name in names if times[name] == len(quality)]
    sometimes = [name for name in names if 0 < times[name] < len(quality)]
    of = f"{len(quality)} comparisons (two extractors, two draws)"
    if always:
        close = "closes" if len(always) == 1 else "close"
        says = f"Yes, in part. {_listed(always)} {close} more of the gap than any filter and than nothing, in all {of}."
    elif sometimes:
        counts = _listed([f"{name} in {times[name]}" for name in sometimes])
        others = "; the other heads in none" if len(sometimes) < len(names) else ""
        says = f"Not settled. Of {of} these close more of the gap than any filter and than nothing: {counts}{others}."
    else:
        says = f"Not shown. No head closes more of the gap than any filter and than nothing in any of {of}."
    rows = quality[0]["found"]["rows"]
    figures = [f"{name} {_gap(rows[name]['gap_closed'])}" for name in names]
    return f"{says} Gap closed, {quality[0]['features']}, first draw: {', '.join(figures)}."


def _beats_filters(rows: Rows, name: str) -> bool:
    closed = rows[name]["gap_closed"]
    return closed["value"] is not None and closed["low"] > 0 and above_filters(closed, rows)


def similar(found: Findings) -> str:
    """The paper's second hypothesis: portraits like the teacher's, at a fraction of the cost."""
    cost = cheaper(found)
    closed = [
        (f"{one['features']}, draw {one['draw']}", one["found"]["rows"][OURS]["gap_closed"])
        for one in found["quality"]
        if OURS in one["found"]["rows"]
    ]
    known = {name: figure for name, figure in closed if figure["value"] is not None}
    if not known:
        return f"{cost} Similar can't be said: student and teacher can't be told apart here."
    # that an interval is wide doesn't make the images alike: all of it has to lie nearer the teacher than the student
    near = all(figure["low"] > 0.5 and figure["high"] >= 1 for figure in known.values())
    far = all(figure["high"] < 1 for figure in known.values())
    says = "Similar: yes" if near else "Similar: no" if far else "Similar: not settled"
    figures = "; ".join(f"{_gap(figure)} on {name}" for name, figure in known.items())
    return f"{cost} {says}; as near as the teacher's own images would be 100%, and ours closes {figures}."


def cheaper(found: Findings) -> str:
    """What is saved with the head of ours, at the pair's own size where it was timed."""
    cost, head = found["bench"]["cost"], found["settings"]["timed"]
    size = str(found["settings"]["size"])
    size = size if size in cost else next(iter(cost))
    paper = percent(found["paper"]["cost"]["saved"])
    if head not in cost[size] or cost[size][head]["saved"]["value"] is None:
        return f"What the head saves was not measured here (the paper: {paper})."
    saved = cost[size][head]["saved"]
    return f"Cheaper: {with_interval(saved)} of the teacher's time is saved at {size} px (the paper: {paper})."


def diversity_sentences(found: Findings) -> list[str]:
    """A sentence for each attribute, and for the distance of faces."""
    measured = found["diversity"]
    rows, differences, tests = (measured[key] for key in ("rows", "differences", "tests"))
    sentences = []
    for attribute in ("gender", "age", "ethnicity"):
        change = differences["names"][f"{attribute}_entropy"]
        if change["value"] is None:
            sentences.append(f"Perceived {attribute}: not measured ({change['why']}).")
            continue
        before, after = (rows[group][f"{attribute}_entropy"] for group in ("business", "names"))
        p = f"p {tests['names'][attribute]['p_entropy']:.2g}"
        span = f"difference {interval_text(change, _three)}, {p}" if change["low"] is not None else f"no interval, {p}"
        sentences.append(
            f"Perceived {attribute}: entropy {_three(before['value'])} without names, {_three(after['value'])} with; "
            f"{_direction(change)} ({span})."
        )
    distance = differences["names"]["distance"]
    if distance["value"] is not None:
        sentences.append(
            f"Mean distance of two faces: {_three(rows['business']['distance']['value'])} without names, "
            f"{_three(rows['names']['distance']['value'])} with; {_direction(distance)} "
            f"(difference {interval_text(distance, _three)})."
        )
    return sentences


def _direction(change: Figure) -> str:
    if change["low"] is not None and change["low"] > 0:
        return "names raise it"
    if change["high"] is not None and change["high"] < 0:
        return "names lower it"
    return "no effect of names is seen"


def blur(rows: Rows) -> str:
    """The paper: SSIM and PSNR can't tell blurred from sharp."""
    heads = enhanced_rows(rows)
    above = {
        metric: [name for name in heads if rows[name][metric]["value"] < rows["blur"][metric]["value"]]
        for metric in ("ssim_student", "psnr_student")
    }
    ssim, psnr, kid = (rows["blur"][metric]["value"] for metric in ("ssim_student", "psnr_student", "kid_teacher"))
    farther = [name for name in heads if rows[name]["kid_teacher"]["value"] < kid]
    by_ssim, by_psnr = (len(names) for names in above.values())
    says = (
        f"The blurred student has SSIM {_three(ssim)} and PSNR {psnr:.1f} dB to the student: better by SSIM than "
        f"{by_ssim}, by PSNR than {by_psnr} of the {len(heads)} rows that were drawn or enhanced. Yet it is farther "
        f"from the teacher (KID {decimals(4)(kid)}) than {len(farther)} of them."
    )
    agrees = set(above["ssim_student"]) & set(farther)
    return says + (
        " So SSIM is no measure of this, as the paper says." if agrees else " That doesn't show the paper's claim."
    )


def ablation(rows: Rows) -> str:
    """The paper: without GRAD images are soft, and L1 does as well."""
    grad, l1, none = (rows[name] for name in ABLATED)
    gap, soft = "gap_closed", "blur_effect"
    figures = ", ".join(f"{word} {_gap(row[gap])}" for word, row in (("GRAD", grad), ("L1", l1), ("neither", none)))
    says = f"Gap closed: {figures}."
    if grad[gap]["value"] is not None and l1[gap]["value"] is not None:
        if l1[gap]["low"] > grad[gap]["high"]:
            says += " L1 does better than GRAD."
        elif l1[gap]["high"] < grad[gap]["low"]:
            says += " L1 does worse than GRAD."
        else:
            says += " L1 can't be told from GRAD: the intervals overlap."
    if soft in grad and grad[soft]["value"] is not None and none[soft]["value"] is not None:
        softer, sharper = none[soft]["low"] > grad[soft]["high"], none[soft]["high"] < grad[soft]["low"]
        without, with_grad = (_three(row[soft]["value"]) for row in (none, grad))
        says += f" Softness without either (blur effect {without}, with GRAD {with_grad}) " + (
            "is seen." if softer else f"is not seen: {'it is sharper' if sharper else 'the intervals overlap'}."
        )
    return says


ABLATED = {"pairwise": "GRAD", "ablation-l1": "L1 in its place", "ablation-none": "neither"}
"""Rows of the ablation, by what stands beside LPIPS."""


def fd_diff(rows: Rows, more: Rows) -> str:
    """FD_diff alone misleads: it rewards distance from the student, whatever the direction.

    Args:
        more: rows of the ablation; where a row is in both, `rows` counts.
    """
    every = {**{name: more[name] for name in more if name not in ("student", "teacher")}, **rows}
    heads = [name for name in every if name not in ("student", "teacher")]
    best = max(heads, key=lambda name: float(every[name]["fd_diff"]["value"]))
    closed = every[best]["gap_closed"]
    value = decimals(2)(every[best]["fd_diff"]["value"])
    called = {"ablation-l1": "the U-Net with L1", "ablation-none": "the U-Net with LPIPS alone"}.get(best, best)
    stored = "" if best in rows else ", stored: on other people"
    says = f"The best row by FD_diff is {called} ({value}{stored}); it closes {_gap(closed)} of the gap."
    if closed["value"] is not None and closed["high"] < 0:
        return says + " It went away from the student, and from the teacher: FD_diff alone misleads."
    return says


def agreement(found: Findings) -> str:
    """Whether extractors and draws rank the rows alike."""
    ranking = found["ranking"]
    taus: dict[str, list[float]] = {"draws": [], "extractors": []}
    for one in ranking["agreement"]:
        (features, draw), (others, other) = one["of"], one["to"]
        if one["tau"] is not None and features == others and draw != other:
            taus["draws"].append(one["tau"])
        elif one["tau"] is not None and draw == other:
            taus["extractors"].append(one["tau"])
    if not taus["draws"] or not taus["extractors"]:
        return "Too few rows to compare rankings."
    draws, extractors = (" and ".join(decimals(2)(tau) for tau in taus[key]) for key in ("draws", "extractors"))
    return (
        f"Kendall's tau of the rankings: {draws} between the two draws (by extractor), {extractors} between the two "
        "extractors (by draw); 1 is the same order."
    )


def _gap(figure: Figure) -> str:
    if figure["value"] is None:
        return "n/a"
    return f"{percent(figure['value'])} ({interval_text(figure, percent)})"


_three = decimals(3)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
