"""The page's other side: pictures out, answers in, for this machine alone."""

import errno
import json
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from undistill.base.errors import Failure, UsageError
from undistill.judge.answers import CHOICES, AnswerFile, read_answers, summarise, to_text
from undistill.judge.study import SCREEN_SIDES

HOST = "127.0.0.1"


def make_server(answers: AnswerFile, page: Callable[[], str], port: int) -> ThreadingHTTPServer:
    """A server on 127.0.0.1; `serve_forever` runs it.

    Args:
        page: makes the HTML, with the answers that there are.
        port: 0: any that is free.

    Raises:
        UsageError: the port is taken.
    """
    lock = Lock()
    questions = answers.study.questions

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            match self.path.split("/")[1:]:
                case _ if not self._from_here():
                    self._send(HTTPStatus.FORBIDDEN)
                case [""]:
                    self._send(HTTPStatus.OK, page().encode(), "text/html; charset=utf-8")
                case ["result"] if answers.finished:
                    text = to_text(summarise([read_answers(answers.path)]))
                    self._send(HTTPStatus.OK, text.encode(), "text/plain; charset=utf-8")
                case ["picture", number, side] if (
                    number.isdecimal() and int(number) < len(questions) and side in SCREEN_SIDES
                ):
                    self._picture(int(number), side)
                case _:
                    self._send(HTTPStatus.NOT_FOUND)

        def do_POST(self) -> None:
            try:
                length = int(self.headers["Content-Length"])
                said = json.loads(self.rfile.read(length) if 0 < length < 1000 else b"{}")
                number, choice = said["question"], said["choice"]
                asked = type(number) is int and 0 <= number < len(questions) and choice in (*CHOICES, None)
            except (ValueError, TypeError, KeyError):
                asked = False
            # Another site's page can't send JSON here without asking first, which nobody answers.
            typed = self.headers.get_content_type() == "application/json"
            if not (asked and typed and self.path == "/answer" and self._from_here()):
                self.close_connection = True
                self._send(HTTPStatus.BAD_REQUEST)
                return
            try:
                with lock:
                    answers.answer(number, choice)
            except OSError as error:
                self._send(HTTPStatus.INSUFFICIENT_STORAGE, str(error.strerror).encode())
                return
            self._send(HTTPStatus.NO_CONTENT)

        def _from_here(self) -> bool:
            """Another site's name may be made to point to 127.0.0.1; then it stands in Host."""
            return self.headers.get("Host") in (f"{HOST}:{port}", f"localhost:{port}")

        def _picture(self, number: int, side: str) -> None:
            try:
                self._send(HTTPStatus.OK, questions[number].picture(side), "image/png")
            except Failure:
                self._send(HTTPStatus.NOT_FOUND)

        def _send(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> None:
            self.send_response(status)
            if status != HTTPStatus.NO_CONTENT:
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: the terminal shows the address and the result."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UsageError(f"port {port} can't be had ({error.strerror}): choose another with --port") from error
    port = server.server_port
    server.daemon_threads = True
    return server
