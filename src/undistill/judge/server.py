"""The page's other side: pictures out, answers in, for this machine alone."""

import json
from collections.abc import Awaitable, Callable
from threading import Lock

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from undistill.base.errors import Failure
from undistill.base.web import Server, listen
from undistill.judge.answers import CHOICES, AnswerFile, read_answers, summarise, to_text
from undistill.judge.study import SCREEN_SIDES

HOST = "127.0.0.1"
_MOST = 1000
"""Bytes of an answer."""


def make_server(answers: AnswerFile, page: Callable[[], str], port: int) -> Server:
    """A server on 127.0.0.1; `serve_on` runs it.

    Args:
        page: makes the HTML, with the answers that there are.
        port: 0: any that is free.

    Raises:
        UsageError: the port is taken.
    """
    socket = listen(HOST, port)
    return Server(make_app(answers, page, socket.getsockname()[1]), socket)


def make_app(answers: AnswerFile, page: Callable[[], str], port: int) -> FastAPI:
    """See `make_server`."""
    app = FastAPI(openapi_url=None)
    lock = Lock()
    questions = answers.study.questions

    @app.middleware("http")
    async def from_here(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        # Another site's name may be made to point to 127.0.0.1; then it stands in Host.
        ours = request.headers.get("host") in (f"{HOST}:{port}", f"localhost:{port}")
        refused = 400 if request.method == "POST" else 403
        reply = await go_on(request) if ours else Response(status_code=refused)
        reply.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
        return reply

    @app.get("/")
    def shown() -> HTMLResponse:
        return HTMLResponse(page())

    @app.get("/result")
    def result() -> PlainTextResponse:
        if not answers.finished:
            return PlainTextResponse("", 404)
        return PlainTextResponse(to_text(summarise([read_answers(answers.path)])))

    @app.get("/picture/{number}/{side}")
    def picture(number: str, side: str) -> Response:
        if not (number.isdecimal() and int(number) < len(questions) and side in SCREEN_SIDES):
            return Response(status_code=404)
        try:
            return Response(questions[int(number)].picture(side), media_type="image/png")
        except Failure:
            return Response(status_code=404)

    @app.post("/answer")
    async def answer(request: Request) -> Response:
        # Another site's page can't send JSON here without asking first, which nobody answers.
        typed = request.headers.get("content-type", "").partition(";")[0] == "application/json"
        length = request.headers.get("content-length", "")
        try:
            said = json.loads(await request.body() if length.isdecimal() and int(length) < _MOST else b"{}")
            number, choice = said["question"], said["choice"]
            asked = type(number) is int and 0 <= number < len(questions) and choice in (*CHOICES, None)
        except (ValueError, TypeError, KeyError):
            asked = False
        if not (asked and typed):
            return Response(status_code=400)
        try:
            with lock:
                answers.answer(number, choice)
        except OSError as error:
            return PlainTextResponse(str(error.strerror), 507)
        return Response(status_code=204)

    return app
