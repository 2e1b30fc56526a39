"""Enhance a portrait from Python, and put it beside the original: python examples/portrait.py OUT

The portrait is NASA's photograph of the astronaut Eileen Collins (public domain), which scikit-image ships. It is a
photograph, not a FLUX.1-schnell image: what flux1-lite was made for looks different. It shows that the head runs here.
"""

import sys
from pathlib import Path

import skimage
from PIL import Image

from undistill.enhance import Enhancer

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

portrait = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB")
enhanced = Enhancer("flux1-lite")(portrait)
enhanced.save(out / "astronaut.png")

face = (150, 0, 310, 220)
sheet = Image.new("RGB", (3 * (face[2] - face[0]) * 2, 3 * (face[3] - face[1])))
for place, image in enumerate((portrait, enhanced)):
    crop = image.crop(face)
    sheet.paste(crop.resize((crop.width * 3, crop.height * 3), Image.Resampling.NEAREST), (place * crop.width * 3, 0))
sheet.save(out / "before-and-after.png")
print(f"enhanced: {out / 'astronaut.png'}; before and after, enlarged: {out / 'before-and-after.png'}")
