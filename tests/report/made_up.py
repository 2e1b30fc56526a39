"""A results.json of a demo that nobody ran."""

from typing import Any

ITSELF = "is the row itself"


def value(value: float, low: float | None = None, high: float | None = None, n: int = 160) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def null(why: str, n: int = 160) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "n": n, "why": why}


def results(head: dict[str, Any] | None = None, blur: dict[str, Any] | None = None) -> dict[str, Any]:
    """With the gap that the head and a filter have closed."""
    return {
        "rows": {
            "student": {"gap_closed": null(ITSELF), "kid_teacher": value(0.0041, 0.0031, 0.0051)},
            "teacher": {"gap_closed": null(ITSELF), "kid_teacher": value(-0.0002, -0.0012, 0.0008)},
            "mine": {
                "gap_closed": head or value(0.58, 0.503, 0.66),
                "kid_teacher": value(0.0017, 0.0011, 0.0023),
                "identity": value(0.951, 0.942, 0.96, 157),
                "identity_rank1": value(0.975, 0.94, 0.991, 157),
                "faces_missing": value(2, n=159),
                "lpips_student": value(0.042, 0.04, 0.044),
            },
            "blur": {
                "gap_closed": blur or value(0.12, 0.01, 0.231),
                "kid_teacher": value(0.0037, 0.0027, 0.0047),
                "identity": null("no face found", 0),
                "lpips_student": value(0.019, 0.018, 0.0205),
            },
            "colour": {"gap_closed": value(-0.071, -0.15, 0.008)},
        },
        "cost": {
            "student": {"seconds": value(0.00712, 0.00698, 0.00733, 9), "saved": value(0.9192, 0.917, 0.922, 9)},
            "mine": {"seconds": value(0.01034, 0.0101, 0.0111, 9), "saved": value(0.8826, 0.881, 0.885, 9)},
            "teacher": {"seconds": value(0.08809, 0.0867, 0.0904, 9), "saved": null(ITSELF, 9)},
        },
        "settings": {
            "pair": "tiny",
            "spec": "5" * 64,
            "head": "mine",
            "weights": "0123456789abcdef" * 4,
            "enhanced": {"mine": "demo/enhanced"},
            "size": 64,
            "student_side": {"model": "tiny-schnell", "steps": 1, "guidance": 0},
            "teacher_side": {"model": "tiny-dev", "steps": 50, "guidance": 3.0, "strength": 0.7},
            "prompts": {"template": "A portrait of {name}", "seed": 1, "first": 10000, "count": 160},
            "timed": {"images": 8, "rounds": 9},
            "machine": {
                "platform": "Linux x86_64",
                "processor": "A <fast> one",
                "cores": 2,
                "threads": 2,
                "device": "cpu",
            },
            "date": "2026-11-25",
            "commands": ["undistill demo -o demo"],
            "stored": {"value": 0.22, "low": 0.03, "high": 0.41, "n": 1000, "date": "2026-11-20"},
            "real": {"head": "flux9", "seconds": 0.16, "size": 1024},
            "features": "efficientnet-lite0",
            "crops": "5 of 224 px an image, native scale",
            "dimensions": 65,
            "distance": "kid, Gaussian kernel",
            "images": {"student": 160, "teacher": 158},
            "fitted on": {"student": 161, "teacher": 159, "apart": False},
            "baselines": {
                "blur": {"match": 0.0, "saturation": 1.0, "sharpen": 0.0, "radius": 1.0, "grain": 0.0, "blur": 0.75},
                "colour": {"match": 0.0, "saturation": 1.0, "sharpen": 0.0, "radius": 1.0, "grain": 0.0, "blur": 0.0},
            },
        },
        "versions": {"undistill": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
    }
