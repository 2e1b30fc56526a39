"""How near the teacher, and how like the student: the words of results.json, for who measures and who draws it."""

DISTANCES = ("fd_student", "fd_teacher", "fd_diff", "kid_student", "kid_teacher", "gap_closed")
PICTURES = (
    "ssim_student",
    "psnr_student",
    "lpips_student",
    "identity",
    "identity_rank1",
    "age_drift",
    "faces_missing",
    "clip_iqa",
    "blur_effect",
    "periodic",
)
BASELINES = ("sharpen", "grain", "colour", "combined", "blur")
"""Rows of tuned filters (baselines.py)."""
OWN_ROWS = ("student", "teacher", *BASELINES)
"""Names that no enhanced set may have."""
ITSELF = "is the row itself"
"""Why a row is not compared with itself."""
CLIP = "openai/clip-vit-base-patch16"
"""Whose weights `clip_iqa` takes from the Hugging Face cache."""
