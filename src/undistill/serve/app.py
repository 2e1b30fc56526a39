"""The service's operations."""

import json
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from undistill import __version__
from undistill.base.files import SAMPLES
from undistill.base.settings import explain
from undistill.enhance.bytes import Enhanced
from undistill.enhance.change import Change
from undistill.enhance.provenance import Label
from undistill.images import READ_ONLY, Encoding, ImageError
from undistill.serve.awaited import while_awaited
from undistill.serve.faces import FACES, Box
from undistill.serve.guard import Guard
from undistill.serve.options import EnhanceOptions, HeadOptions, merged
from undistill.serve.pair import ServedPair, add_pair, compared
from undistill.serve.problems import Problem, documented
from undistill.serve.queue import Queue
from undistill.serve.upload import read_upload, unusable

PAGE = Path(str(files("undistill"))) / "serve" / "page"
MEDIA = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "TIFF": "image/tiff", "AVIF": "image/avif"}
HEADERS = {
    "Undistill-Head": "The head's name.",
    "Undistill-Hash": "SHA-256 of its configuration and weights.",
    "Undistill-Backend": "What ran it: torch, openvino, ...",
    "Undistill-Strength": "As it was applied.",
    "Undistill-Milliseconds": "From the request's first byte to the answer's.",
    "Undistill-Notes": "What was changed or left out on the way: a JSON list of sentences in ASCII.",
}
_REFUSALS = documented("malformed", "slow", "bytes", "pixels", "type", "invalid", "full", "closing", "late")
"""Of operations that take an image."""
_NOTES = 4000
"""Characters of the header; some proxies take 8 kB of all headers."""


@dataclass(frozen=True)
class Limits:
    """What a service takes.

    Args:
        keys: one of them is needed; none: none is.
        local: answer to this machine's own names alone.
        origins: of sites whose pages may ask.
        per_minute: requests of each key; None: any number.
        bytes, pixels: of an image.
        seconds: for a request, from its first byte to its answer's.
    """

    keys: tuple[str, ...] = ()
    local: bool = True
    origins: tuple[str, ...] = ()
    per_minute: int | None = None
    bytes: int = 32_000_000
    pixels: int = 40_000_000
    seconds: float = 60.0


def make_app(work: Queue, limits: Limits, pair: ServedPair | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        work: who does it, and how many may ask at a time.
        pair: that prompts are drawn with; None: there are no operations for it.
    """

    app = FastAPI(
        title="undistill",
        version=__version__,
        summary="Gives the portraits of distilled text-to-image models back what distillation took.",
        docs_url=None,  # their scripts come from another host
        redoc_url=None,
    )
    _add_enhance(app, work, limits)
    if FACES:
        _add_faces(app, work, limits)
    if pair is not None:
        add_pair(app, pair, limits.seconds)
    else:
        _add_compare(app, work, limits)
    _add_heads(app, work, limits, pair.name if pair else None)
    _add_states(app, work)
    _add_page(app)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        words = explain(problem, [str(key) for key in problem["loc"][1:]], EnhanceOptions, "the request")
        raise Problem("invalid", words)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allow = (error.headers or {}).get("Allow", "")
            raise Problem("method", f"{request.method} is not for this: use {allow}.", allow=allow)
        raise Problem("path", "There is nothing of this name: see /openapi.json.")

    paths = {path for route in app.routes if (path := getattr(route, "path", None))}
    app.add_middleware(
        Guard,
        meters=work.meters,
        keys=limits.keys,
        local=limits.local,
        origins=limits.origins,
        per_minute=limits.per_minute,
        paths=lambda: paths,
    )
    if limits.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=limits.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("Authorization", "Content-Type"),
            expose_headers=(*HEADERS, "Retry-After"),
        )
    return app


def _add_enhance(app: FastAPI, work: Queue, limits: Limits) -> None:
    answer = {
        "description": "The enhanced image, with all that the one sent says of itself.",
        "content": {kind: {"schema": _BINARY} for kind in MEDIA.values()},
        "headers": {name: {"description": words, "schema": {"type": "string"}} for name, words in HEADERS.items()},
    }

    @app.post(
        "/v1/enhance",
        summary="Enhance an image.",
        response_class=Response,
        responses={
            200: answer,
            **_REFUSALS,
        },
        openapi_extra=_image_and(EnhanceOptions.model_json_schema()["properties"]),
    )
    async def enhanced(request: Request, query: Annotated[EnhanceOptions, Query()]) -> Response:
        begun = time.perf_counter()
        with work.place():
            upload = await read_upload(request, limits.bytes, limits.pixels, limits.seconds)
            options = merged(query, upload.fields)
            head, wanted, how = work.head(options.head), options.change(), options.encoding()
            if wanted.finds_faces and not FACES:
                raise Problem("invalid", "This service finds no faces: leave out where and keep_identity.")
            same_kind = upload.header.format not in READ_ONLY
            label = options.label(head.name, head.hash)
            enhance = partial(work.enhance, head.name, upload.data, wanted, how, same_kind, label)
            made: Enhanced = await _done(enhance, request, limits, begun)
        work.meters.bytes.labels("in").inc(len(upload.data))
        work.meters.bytes.labels("out").inc(len(made.data))
        said = {
            "Undistill-Head": head.name,
            "Undistill-Hash": head.hash,
            "Undistill-Backend": head.backend,
            "Undistill-Strength": f"{made.strength:g}",
            "Undistill-Milliseconds": f"{1000 * (time.perf_counter() - begun):.0f}",
            "Undistill-Notes": json.dumps(made.notes if len(json.dumps(made.notes)) <= _NOTES else ["much changed"]),
        }
        return Response(made.data, headers=said, media_type=MEDIA[made.format])


_BINARY = {"type": "string", "format": "binary"}


async def _done(work: Callable[[], Any], request: Request, limits: Limits, begun: float) -> Any:
    """What the work on an image comes to, in what is left of the time."""
    left = limits.seconds - (time.perf_counter() - begun)
    try:
        return await while_awaited(request, work, left, limits.seconds)
    except ImageError as error:
        raise unusable(error) from error


def _image_and(fields: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a body that is an image, or a form with one and these fields."""
    form = {"type": "object", "required": ["image"], "properties": {"image": _BINARY, **fields}}
    content = {
        "multipart/form-data": {"schema": form, "encoding": {"image": {"contentType": "image/*"}}},
        **{kind: {"schema": _BINARY} for kind in (*MEDIA.values(), "application/octet-stream")},
    }
    return {"requestBody": {"required": True, "content": content}}


def _add_faces(app: FastAPI, work: Queue, limits: Limits) -> None:
    @app.post(
        "/v1/faces",
        summary="Where the faces are, the largest first: left, top, right and bottom of each, px of the upright image.",
        responses={
            200: {"description": "Boxes.", "content": {"application/json": {"schema": _BOXES}}},
            **_REFUSALS,
        },
        openapi_extra=_image_and({}),
    )
    async def faces(request: Request) -> JSONResponse:
        begun = time.perf_counter()
        with work.place():
            upload = await read_upload(request, limits.bytes, limits.pixels, limits.seconds)
            if upload.fields:
                raise Problem("invalid", "The form has fields beside its image: leave them out.")
            boxes: list[Box] = await _done(partial(work.faces, upload.data), request, limits, begun)
        return JSONResponse({"faces": boxes})


def _add_compare(app: FastAPI, work: Queue, limits: Limits) -> None:
    @app.post(
        "/v1/compare",
        summary="An image as it is and enhanced, and how long that took. With a pair it takes a prompt, and draws.",
        responses={
            200: {"description": "PNGs in base64, and seconds.", "content": compared("student", "enhanced")},
            **_REFUSALS,
        },
        openapi_extra=_image_and(HeadOptions.model_json_schema()["properties"]),
    )
    async def compare(request: Request, query: Annotated[HeadOptions, Query()]) -> JSONResponse:
        begun = time.perf_counter()
        with work.place():
            upload = await read_upload(request, limits.bytes, limits.pixels, limits.seconds)
            options = merged(query, upload.fields)
            head = work.head(options.head)
            answer = {}
            for name, strength in (("student", 0.0), ("enhanced", options.strength)):
                one = time.perf_counter()
                label = Label(head.name, head.hash) if strength else None
                how = (head.name, upload.data, Change(strength), Encoding("PNG"), False, label)
                made: Enhanced = await _done(partial(work.enhance, *how), request, limits, begun)
                answer[name] = {"png": b64encode(made.data).decode(), "seconds": round(time.perf_counter() - one, 4)}
        return JSONResponse(answer)


_BOX = {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
_BOXES = {"type": "object", "required": ["faces"], "properties": {"faces": {"type": "array", "items": _BOX}}}


def _add_heads(app: FastAPI, work: Queue, limits: Limits, pair: str | None) -> None:
    @app.get("/v1/heads", summary="The heads that may be asked for; the first where none is.", responses=documented())
    async def heads() -> JSONResponse:
        listed = [head.said() for head in work.heads.values()]
        taken = {"bytes": limits.bytes, "pixels": limits.pixels, "seconds": limits.seconds}
        return JSONResponse({"heads": listed, "limits": taken, "pair": pair, "faces": FACES, "version": __version__})


def _add_states(app: FastAPI, work: Queue) -> None:
    @app.get("/healthz", summary="Whether the process answers.", include_in_schema=False)
    async def healthy() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", summary="Whether requests are taken.", responses=documented("closing"))
    async def ready() -> JSONResponse:
        if work.closing:
            raise Problem("closing", "The service is ending: ask another.", retry_after="5")
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", summary="For Prometheus.", response_class=Response, responses=documented())
    async def metrics() -> Response:
        text, kind = work.meters.text()
        return Response(text, media_type=kind)


def _add_page(app: FastAPI) -> None:
    samples = {path.name: path for path in sorted(SAMPLES.iterdir())}

    @app.get("/samples", summary="Names of the portraits that are shipped.", include_in_schema=False)
    async def names() -> JSONResponse:
        return JSONResponse(list(samples))

    @app.get("/samples/{name}", include_in_schema=False)
    async def sample(name: str) -> Response:
        if name not in samples:
            raise Problem("path", "There is no such sample: see /samples.")
        return FileResponse(samples[name])

    for path, name in (("/", "index.html"), ("/page.js", "page.js"), ("/page.css", "page.css")):
        app.add_api_route(path, partial(_file, PAGE / name), include_in_schema=False, response_class=FileResponse)


async def _file(path: Path) -> FileResponse:
    return FileResponse(path, headers={"Cache-Control": "no-cache"})
