"""A pair behind the service: prompts become pictures, one at a time."""

import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from undistill.base.settings import Strict, explain_all
from undistill.enhance.provenance import Label, generated, marked
from undistill.images import Metadata, Picture, Pixels, encode
from undistill.serve.awaited import while_awaited
from undistill.serve.heads import ServedHead
from undistill.serve.problems import Problem, documented
from undistill.serve.upload import bounded, media_type, within
from undistill.serve.work import Work

if TYPE_CHECKING:
    from undistill.pairs.generator import Generator

Options = TypeVar("Options", bound=Strict)

_MOST = 64 * 1024
"""Bytes of a body."""


class CompareOptions(Strict):
    """Of POST /v1/compare."""

    prompt: Annotated[str, Field(min_length=1, max_length=2000, examples=["A professional portrait of Ada Okafor"])]
    seed: Annotated[int, Field(ge=0, le=2**62, examples=[1])] = 0


class GenerateOptions(CompareOptions):
    """Of POST /v1/generate."""

    raw: Annotated[bool, Field(description="The student's picture, without a head.")] = False
    head: Annotated[str | None, Field(description="One of GET /v1/heads; the pair's own unless told.")] = None


class ServedPair:
    """A pair that may be asked.

    Args:
        head: the pair's own; None: it has none, and its pictures are the student's.
        work: that has the heads.
    """

    def __init__(self, generator: "Generator", head: ServedHead | None, work: Work) -> None:
        self.work = work
        self.generator = generator
        self.name = generator.spec.name
        self.head = head
        # A generator is one thread's at a time; the others are there for who has no prompt to be drawn.
        self.thread = ThreadPoolExecutor(1, "undistill-pair", initializer=torch.get_num_threads)

    def draw(self, prompt: str, seed: int, head: ServedHead | None, teacher: bool) -> dict[str, Any]:
        """Pixels and seconds by the name of who drew them: student, enhanced and teacher."""
        drawn: dict[str, tuple[Pixels, float]] = {}
        begun = time.perf_counter()
        student = self.generator.student([prompt], [seed])
        drawn["student"] = student[0], time.perf_counter() - begun
        if head is not None:
            begun = time.perf_counter()
            enhanced = self.work.run_on(head.name)(student[0], 1.0)
            drawn["enhanced"] = enhanced, time.perf_counter() - begun + drawn["student"][1]
        if teacher:
            begun = time.perf_counter()
            pixels = self.generator.teacher([prompt], [seed], student)[0]
            drawn["teacher"] = pixels, time.perf_counter() - begun + drawn["student"][1]
        return drawn


def add_pair(app: FastAPI, pair: ServedPair, seconds: float) -> None:
    """The operations of a pair.

    Args:
        seconds: for a request.
    """
    work = pair.work
    refusals = documented("slow", "bytes", "type", "invalid", "full", "closing", "late")

    async def drawn(request: Request, asked: CompareOptions, head: ServedHead | None, teacher: bool) -> dict[str, Any]:
        draw = partial(pair.draw, asked.prompt, asked.seed, head, teacher)
        made: dict[str, Any] = await while_awaited(request, lambda: work.do(draw, pair.thread), seconds, seconds)
        return made

    @app.post(
        "/v1/generate",
        summary="Draw a prompt with the pair's student, and enhance it.",
        response_class=Response,
        responses={200: {"description": "A PNG.", "content": {"image/png": {"schema": _BINARY}}}, **refusals},
        openapi_extra=_body(GenerateOptions),
    )
    async def generate(request: Request) -> Response:
        begun = time.perf_counter()
        with work.place():
            asked = await _read(request, GenerateOptions, seconds)
            head = None if asked.raw else pair.head if asked.head is None else work.head(asked.head)
            pictures = await drawn(request, asked, head, teacher=False)
        pixels, _ = pictures["student" if head is None else "enhanced"]
        made_with = {"prompt": asked.prompt, "seed": str(asked.seed), "pair": pair.name}
        said = {"Undistill-Pair": pair.name, "Undistill-Milliseconds": f"{1000 * (time.perf_counter() - begun):.0f}"}
        if head is not None:
            made_with |= {"head": head.name, "weights": head.hash}
            said |= {"Undistill-Head": head.name, "Undistill-Hash": head.hash, "Undistill-Strength": "1"}
            said |= {"Undistill-Backend": head.backend}
        return Response(_png(pixels, made_with, head), headers=said, media_type="image/png")

    @app.post(
        "/v1/compare",
        summary="Draw a prompt with student, head and teacher, and say how long each took.",
        responses={
            200: {"description": "PNGs in base64, and seconds.", "content": compared("student", "teacher")},
            **refusals,
        },
        openapi_extra=_body(CompareOptions),
    )
    async def compare(request: Request) -> JSONResponse:
        with work.place():
            asked = await _read(request, CompareOptions, seconds)
            pictures = await drawn(request, asked, pair.head, teacher=True)
        answer = {
            name: {
                "png": b64encode(_png(pixels, {}, pair.head if name == "enhanced" else None)).decode(),
                "seconds": round(took, 4),
            }
            for name, (pixels, took) in pictures.items()
        }
        return JSONResponse(answer)


_BINARY = {"type": "string", "format": "binary"}
_PICTURE = {
    "type": "object",
    "required": ["png", "seconds"],
    "properties": {"png": {"type": "string"}, "seconds": {"type": "number"}},
}


def compared(*required: str) -> dict[str, Any]:
    """What OpenAPI says of an answer that has several pictures."""
    properties = dict.fromkeys(("student", "enhanced", "teacher"), _PICTURE)
    schema = {"type": "object", "required": list(required), "properties": properties}
    return {"application/json": {"schema": schema}}


def _body(model: type[Strict]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def _read(request: Request, model: type[Options], seconds: float) -> Options:
    if media_type(request) != "application/json":
        raise Problem("type", "Send JSON: a body of type application/json.")
    async with within(seconds, "send it faster"):
        body = b"".join([part async for part in bounded(request, _MOST)])
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Problem("invalid", explain_all(error, model, "the body")) from error


def _png(pixels: Pixels, said: dict[str, str], head: ServedHead | None = None) -> bytes:
    metadata = Metadata(xmp=generated(), text=said)
    if head is not None:
        metadata = marked(metadata, "PNG", Label(head.name, head.hash, generated=True), 1.0, notes=[])
    return encode(Picture(pixels, None, "PNG", metadata), pixels)
