"""Run an ASGI application on a port of this machine, with uvicorn."""

import errno
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from undistill.base.errors import UsageError

_BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        port: 0: any that is free.

    Raises:
        UsageError: the port is taken, or there is no such host here.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host} is no address of this machine") from error
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise UsageError(f"port {port} can't be had ({error.strerror}): choose another with --port") from error


class Server(uvicorn.Server):
    """Serves until SIGINT or SIGTERM comes, or `stop` is called: then it answers what it has taken, and ends.

    Args:
        app: an ASGI application.
        socket: that listens; it is closed at the end.
        closing: called at the first of the signals.
        seconds: it waits for answers at most.
    """

    def __init__(
        self, app: Any, socket: socket.socket, closing: Callable[[], object] = lambda: None, seconds: float = 10.0
    ) -> None:
        # What comes with uvicorn's log would stand in ours.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(seconds)),
            proxy_headers=False,
        )
        super().__init__(config)
        self.socket = socket
        self._closing = closing

    @property
    def port(self) -> int:
        """That it listens on."""
        return int(self.socket.getsockname()[1])

    def serve_on(self) -> None:
        """Serve, until it ends."""
        self.run([self.socket])

    def stop(self) -> None:
        """From another thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A second Ctrl-C doesn't wait."""
        self._closing()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
