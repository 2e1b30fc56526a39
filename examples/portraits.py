"""Draw portraits with tiny's student, enhance them, and put both side by side: python examples/portraits.py OUT

tiny is a FLUX pair of 64 px that is shipped with undistill; its images show the mechanism, not FLUX's quality.
flux1-lite, the head, was trained on FLUX's portraits.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import undistill

NAMES = (
    *("Ada Okafor", "Kenji Mori", "Lucía Fernández", "Lars Nilsson"),
    *("Priya Nair", "Omar Haddad", "Emily Clarke", "Пётр Иванов"),
)

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

pipeline = undistill.Pipeline("tiny", head="flux1-lite")
student, enhanced = pipeline.stages([f"A professional portrait of {name}" for name in NAMES], range(len(NAMES)))

for word, images in (("student", student), ("enhanced", enhanced)):
    for number, image in enumerate(images):
        Image.fromarray(image).save(out / f"{word}-{number}.png")
sheet = Image.fromarray(np.vstack([np.hstack(list(images)) for images in (student, enhanced)]))
sheet.resize((3 * sheet.width, 3 * sheet.height), Image.Resampling.NEAREST).save(out / "student-and-enhanced.png")
print(f"above the student's, below enhanced, three times as large: {out / 'student-and-enhanced.png'}")
