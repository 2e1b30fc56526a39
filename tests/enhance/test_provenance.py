import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from research.faults.corpus import XMP

from undistill.enhance.provenance import COMPOSITE, GENERATED, IPTC, OURS, Label, is_generated, marked
from undistill.images import FORMATS, READ_ONLY, Metadata, decode, encode
from undistill.images.xmp import values_of

LABEL = Label("flux1", "abc")
A1111 = "a portrait\nNegative prompt: wax\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"


def file(format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((9, 8, 3), 90, np.uint8)).save(buffer, format, **options)
    return buffer.getvalue()


def text(**values: str) -> bytes:
    info = PngInfo()
    for key, value in values.items():
        info.add_text(key.replace("__", "-"), value, zip=len(value) > 200)
    return file(pnginfo=info)


def enhanced(data: bytes, label: Label = LABEL, strength: float = 0.5) -> tuple[Metadata, bytes, list[str]]:
    picture = decode(BytesIO(data))
    picture.metadata = marked(picture.metadata, picture.format, label, strength, picture.notes)
    written = encode(picture, 255 - picture.pixels)
    return decode(BytesIO(written)).metadata, written, picture.notes


def source_type(metadata: Metadata) -> str:
    (value,) = values_of(metadata.xmp, f"{IPTC} DigitalSourceType")
    return value


@pytest.mark.parametrize("format", [format for format in FORMATS if format not in READ_ONLY])
def test_every_format_says_so(format: str) -> None:
    metadata, written, notes = enhanced(file(format))
    assert source_type(metadata) == COMPOSITE
    assert [values_of(metadata.xmp, f"{OURS} {name}") for name in ("head", "weights", "strength")] == [
        ["flux1"], ["abc"], ["0.5"]
    ]  # fmt: skip
    assert notes == []
    assert written == enhanced(file(format))[1]  # no date
    assert source_type(enhanced(file(format), Label("flux1", "abc", generated=True))[0]) == GENERATED


def test_a_png_says_it_as_text_and_once() -> None:
    _, written, _ = enhanced(text(Author="Ada", parameters=A1111))
    again = enhanced(written, Label("other", "def"))[1]
    said = [Image.open(BytesIO(data)).text for data in (written, again)]  # type: ignore[attr-defined]
    assert [each["Author"] for each in said] == ["Ada", "Ada"]
    assert [each["parameters"] for each in said] == [A1111, A1111]
    assert json.loads(said[0]["undistill"])["strength"] == 0.5
    assert json.loads(said[1]["undistill"])["head"] == "other"
    assert again.count(b"tEXtundistill") == 1
    assert values_of(decode(BytesIO(again)).metadata.xmp, f"{OURS} head") == ["other"]
    assert again.count(b"rdf:Description ") == 1


EXIF_COMMENT = Image.Exif()
EXIF_COMMENT.get_ifd(ExifTags.IFD.Exif)[0x9286] = b"UNICODE\0" + A1111.encode("utf-16-be")
EXIF_MAKE = Image.Exif()
EXIF_MAKE[ExifTags.Base.Make] = 'prompt:{"3": {"class_type": "KSampler"}}'
EXIF_SOFTWARE = Image.Exif()
EXIF_SOFTWARE[ExifTags.Base.Software] = "NovelAI"
SAID = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description xmlns:e="{IPTC}" e:DigitalSourceType="{GENERATED}" e:City="Łódź"/></rdf:RDF></x:xmpmeta>'
).encode()


@pytest.mark.parametrize(
    "data",
    [
        text(parameters=A1111),
        text(prompt='{"3": {}}', workflow="{}" * 200),
        text(invokeai_metadata="{}"),
        text(sd__metadata="{}"),
        text(Software="NovelAI", Comment="{}"),
        text(Comment='{"negative_prompt": "wax"}'),
        file("JPEG", exif=EXIF_COMMENT),
        file("WEBP", exif=EXIF_MAKE),
        file("AVIF", exif=EXIF_SOFTWARE),
        file("JPEG", comment=A1111.encode()),
        file("WEBP", xmp=SAID),
    ],
)
def test_generators_are_known_by_what_they_write(data: bytes) -> None:
    assert is_generated(decode(BytesIO(data)).metadata)
    metadata, written, _ = enhanced(data)
    assert source_type(metadata) == GENERATED
    assert source_type(enhanced(written)[0]) == GENERATED  # what was generated stays so


@pytest.mark.parametrize(
    "data",
    [
        text(Software="GIMP", Comment="Created with GIMP", Description="Steps: 20 to the door"),
        file("WEBP", xmp=XMP),
        file("JPEG", comment=b"the workflow: see below"),
        file("JPEG", exif=b"Exif\0\0broken"),
    ],
)
def test_a_photograph_is_a_composite(data: bytes) -> None:
    metadata, written, _ = enhanced(data)
    assert source_type(metadata) == COMPOSITE
    assert source_type(enhanced(written)[0]) == COMPOSITE


def test_the_xmp_before_is_amended() -> None:
    camera = SAID.replace(GENERATED.encode(), b"http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture")
    metadata, *_ = enhanced(file("WEBP", xmp=camera))
    assert source_type(metadata) == COMPOSITE  # one alone
    start, end = metadata.xmp.index(b"<rdf:Description xmlns:rdf"), metadata.xmp.index(b"</rdf:RDF>")
    assert metadata.xmp[:start] + metadata.xmp[end:] == camera.replace(
        b' e:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"', b""
    )


def test_xmp_that_can_t_be_kept_is_said() -> None:
    metadata, _, notes = enhanced(file("WEBP", xmp=b"<!DOCTYPE a><a/>"))
    assert source_type(metadata) == COMPOSITE
    assert notes == ["its XMP left out, as it has a DOCTYPE"]
    padded = XMP.replace(b"<rdf:", b" " * (65_000 - len(XMP)) + b"<rdf:", 1)
    metadata, _, notes = enhanced(file("JPEG", xmp=padded))
    assert source_type(metadata) == COMPOSITE
    assert len(notes) == 1
    assert "too long" in notes[0]


def test_an_image_in_memory_says_it_in_its_info() -> None:
    metadata = marked(Metadata(text={"Author": "Ada"}), "PNG", LABEL, 1.0, [])
    assert json.loads(metadata.info["undistill"])["weights"] == "abc"
    assert metadata.info["Author"] == "Ada"
