"""Pictures that say of themselves that a network has changed, or made, them (EU AI Act, article 50).

XMP: the IPTC's digital source type, and in a namespace of our own head, hash of its weights, strength and version. A
PNG says the latter as text, too. What other programs have written stays. There is no date in it: the same command ends
with the same bytes.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from zlib import crc32

from PIL import ExifTags, Image

from undistill.base.errors import UsageError
from undistill.images import Metadata
from undistill.images.metadata import XMP_LIMIT
from undistill.images.xmp import XmpError, values_of, with_properties, without

if TYPE_CHECKING:
    from undistill.enhance.credentials import Credentials

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = f"{SOURCE_TYPES}trainedAlgorithmicMedia"
COMPOSITE = f"{SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
OURS = "urn:x-undistill:1.0/"
KEYWORD = "undistill"
"""Of a PNG's text, a line of JSON."""

# Texts of a PNG that generators write: A1111 and its kin; ComfyUI, and our own; InvokeAI; Fooocus; others' nodes.
_KEYWORDS = {
    *("parameters", "postprocessing", "prompt", "workflow", "fooocus_scheme", "generation_data", "smproj"),
    *("invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata", "Dream", "dream_prompt"),
}
_NAMES = re.compile(
    rb"NovelAI|Stable Diffusion|ComfyUI|InvokeAI|Midjourney|DALL.E|Adobe Firefly|diffusers|AI generated image",
    re.IGNORECASE,
)
# What they write elsewhere: A1111's line of settings; ComfyUI's, SwarmUI's and InvokeAI's JSON.
_SETTINGS = re.compile(
    rb"Steps: \d+, Sampler: |^\s*(?:prompt|workflow):\s*\{"
    rb"|\"(?:sui_image_params|negative_prompt|class_type|cfg_scale)\"\s*:"
)


@dataclass(frozen=True)
class Label:
    """What pictures are to say.

    Args:
        head: the head's name; of a folder, its last part: the rest is nobody's business.
        weights: hash of the head's weights.
        generated: the user says that they were generated; else their metadata are asked.
        credentials: what manifests are signed with; None: no manifest is made.
    """

    head: str
    weights: str
    generated: bool = False
    credentials: "Credentials | None" = None

    def told(self) -> dict[str, Any]:
        """For a record."""
        told = {"marked": "as generated" if self.generated else "by metadata"}
        return told | ({"signed": sha256(self.credentials.chain).hexdigest()} if self.credentials else {})


def check_asked(generated: bool, provenance: bool) -> None:
    """Raises:
    UsageError: a picture is said to be generated, and is to say nothing of it.
    """
    if generated and not provenance:
        raise UsageError("generated doesn't go with no provenance: leave out one of the two")


def is_generated(metadata: Metadata) -> bool:
    """Whether a generator has left its words in a PNG's text, EXIF, XMP or a comment. What says nothing may be, too."""
    for keyword, value in _texts(metadata):
        if keyword in _KEYWORDS or (keyword in ("Software", "Source", "Title") and _NAMES.search(value)):
            return True
        if keyword in ("Comment", "Description") and _SETTINGS.search(value):
            return True
    comment = metadata.comment.encode() if isinstance(metadata.comment, str) else metadata.comment
    if _SETTINGS.search(comment) or _exif_says_so(metadata.exif):
        return True
    try:
        return GENERATED in values_of(metadata.xmp, f"{IPTC} DigitalSourceType") if metadata.xmp else False
    except XmpError:
        return GENERATED.encode() in metadata.xmp


def generated() -> bytes:
    """XMP that says that a picture was, and no more."""
    return with_properties(b"", {"Iptc4xmpExt": IPTC}, {"Iptc4xmpExt:DigitalSourceType": GENERATED})


def source_type(metadata: Metadata, label: Label) -> str:
    """The IPTC's digital source type of what a head made of a picture."""
    return GENERATED if label.generated or is_generated(metadata) else COMPOSITE


def marked(metadata: Metadata, format: str, label: Label, strength: float, notes: list[str]) -> Metadata:
    """Metadata with the mark; what was there stays, but for an older mark.

    Args:
        format: Pillow's name of that of the file.
        strength: that was used.
        notes: what can't be kept is added to it.
    """
    said = {"head": label.head, "weights": label.weights, "strength": f"{strength:g}", "version": _version()}
    source = source_type(metadata, label)
    properties = {"Iptc4xmpExt:DigitalSourceType": source} | {f"{KEYWORD}:{key}": value for key, value in said.items()}
    prefixes = {"Iptc4xmpExt": IPTC, KEYWORD: OURS}
    try:
        rest = without(metadata.xmp, _is_mark) if metadata.xmp else b""
        xmp = with_properties(rest, prefixes, properties)
        if format == "JPEG" and len(xmp) > XMP_LIMIT:
            notes.append("its XMP, which is too long with the words on how it was made, left out")
            xmp = with_properties(b"", prefixes, properties)
    except XmpError as error:
        notes.append(f"its XMP left out, as {error}")
        xmp = with_properties(b"", prefixes, properties)
    if format != "PNG":
        return replace(metadata, xmp=xmp)
    text = json.dumps({**said, "strength": strength})
    chunks = b"".join(chunk for keyword, chunk, _ in _chunks(metadata.chunks) if keyword != KEYWORD)
    if chunks:
        body = b"tEXt" + KEYWORD.encode() + b"\0" + text.encode("ascii")
        chunks += (len(body) - 4).to_bytes(4, "big") + body + crc32(body).to_bytes(4, "big")
    return replace(metadata, xmp=xmp, chunks=chunks, text={**metadata.text, KEYWORD: text})


def _is_mark(name: str) -> bool:
    space, _, local = name.rpartition(" ")
    return space == OURS or (space == IPTC and local == "DigitalSourceType")


@cache
def _version() -> str:
    return version("undistill")


def _texts(metadata: Metadata) -> Iterator[tuple[str, bytes]]:
    """Keywords of a PNG's text, and what is not compressed of it."""
    yield from ((keyword, value.encode()) for keyword, value in metadata.text.items())
    yield from ((keyword, value) for keyword, _, value in _chunks(metadata.chunks))


def _chunks(chunks: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Keyword, the whole chunk, and what stands behind the keyword; of one that is no text, no keyword."""
    start = 0
    while start < len(chunks):
        end = start + 12 + int.from_bytes(chunks[start : start + 4], "big")
        keyword, _, value = chunks[start + 8 : end - 4].partition(b"\0")
        text = chunks[start + 4 : start + 8] in (b"tEXt", b"zTXt", b"iTXt")
        yield keyword.decode("latin-1") if text else "", chunks[start:end], value
        start = end


def _exif_says_so(exif: bytes) -> bool:
    if not exif:
        return False
    tags = Image.Exif()
    try:
        tags.load(exif)
        comment = tags.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
        values = [*tags.values(), comment]
    except Exception:  # see `decode`: what is broken says nothing
        return False
    software = tags.get(ExifTags.Base.Software)
    if isinstance(software, str) and _NAMES.search(software.encode("utf-8", "replace")):
        return True
    texts = [value.encode("utf-8", "replace") if isinstance(value, str) else value for value in values]
    # A comment begins with the name of its encoding, and may have two bytes a letter, in any order.
    plain = [text.removeprefix(b"UNICODE").replace(b"\0", b"") for text in texts if isinstance(text, bytes)]
    return any(map(_SETTINGS.search, plain))
