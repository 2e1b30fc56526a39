"""A request's body: read into memory, never to disk, within bounds, and looked at before anything is decoded."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from undistill.images import Header, ImageError, NoImage, TooLarge, header_of
from undistill.serve.problems import Problem

_BESIDE = 64 * 1024
"""Bytes of a form beside its image: its fields, and what separates them."""
_KINDS = "PNG, JPEG, WebP, TIFF, AVIF, BMP or GIF"


@dataclass(frozen=True)
class Upload:
    """An image as it came, what its header says, and the form's other fields."""

    data: bytes
    header: Header
    fields: dict[str, str]


class _InMemory(MultiPartParser):
    spool_max_size = 0  # of the file on the disk that a large part would become: none is


async def read_upload(request: Request, max_bytes: int, max_pixels: int, seconds: float) -> Upload:
    """The image of a form's field `image`, or that is the whole body.

    Args:
        max_bytes: of the image.
        max_pixels: of the image, by its header.
        seconds: that the body may take to come.

    Raises:
        Problem: it is none that can be taken.
        ClientDisconnect: nobody waits for an answer any more.
    """
    kind = media_type(request)
    is_form = kind == "multipart/form-data"
    if not (is_form or kind.startswith("image/") or kind == "application/octet-stream"):
        raise Problem("type", "Send a form with the field image (curl -F image=@FILE), or a body of type image/png.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("type", "Send the body without a Content-Encoding.")
    async with within(seconds, "send it faster, or less"):
        body = bounded(request, max_bytes + (_BESIDE if is_form else 0))
        data, fields = await _form(request, body) if is_form else (b"".join([part async for part in body]), {})
    if not data:
        raise Problem("invalid", f"The image is empty: send a {_KINDS}.")
    if len(data) > max_bytes:
        raise _too_long(max_bytes)
    return Upload(data, await asyncio.to_thread(_header, data, max_pixels), fields)


def media_type(request: Request) -> str:
    """Of the body, in small letters, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def within(seconds: float, advice: str) -> AsyncGenerator[None, None]:
    """Raises:
    Problem: the body took more than `seconds` to come; it gives the advice.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Problem("slow", f"The body took more than {seconds:g} s to come: {advice}.") from None


async def bounded(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes.

    Raises:
        Problem: it is longer than `most` bytes; where its length is told, before any of it is read.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_long(most)
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > most:
            raise _too_long(most)
        yield part


def _too_long(most: int) -> Problem:
    return Problem("bytes", f"It has more than the {most / 1e6:.3g} MB that are taken: send a smaller file.")


async def _form(request: Request, body: AsyncGenerator[bytes, None]) -> tuple[bytes, dict[str, str]]:
    try:
        form: FormData = await _InMemory(
            request.headers, body, max_files=1, max_fields=20, max_part_size=_BESIDE
        ).parse()
    except (MultiPartException, ValueError) as error:
        raise Problem("malformed", "The form can't be read: send multipart/form-data with one file, image.") from error
    image, fields = form.get("image"), {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields[name] = value
        elif name != "image":
            raise Problem("invalid", "The form's file has another name than image: call it so.")
    if not isinstance(image, UploadFile):
        raise Problem("invalid", "The form has no file image: send one (curl -F image=@FILE).")
    with image.file:
        return image.file.read(), fields


def _header(data: bytes, max_pixels: int) -> Header:
    try:
        header = header_of(data)
    except NoImage as error:
        raise Problem("type", f"It is no image in a format that is read: send a {_KINDS}.") from error
    except TooLarge as error:
        raise _too_large(max_pixels) from error
    except ImageError as error:
        raise unusable(error) from error
    if header.width * header.height > max_pixels:
        raise _too_large(max_pixels)
    return header


def _too_large(most: int) -> Problem:
    return Problem("pixels", f"It has more than the {most / 1e6:g} megapixels that are taken: send a smaller one.")


def unusable(error: ImageError) -> Problem:
    """What to say of an image that can't be read, or not be written as asked."""
    return Problem("invalid", f"The image {error}")
