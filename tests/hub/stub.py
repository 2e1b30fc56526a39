"""A Hugging Face hub of the smallest size, on loopback: it takes commits, keeps them, and gives files back."""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

OID = "1234567890abcdef1234567890abcdef12345678"


class Stub(ThreadingHTTPServer):
    """Repositories by "models/owner/name" or "datasets/owner/name", their files by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main"}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self._parts()
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked.get('type') or 'model'}s/{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(name, {})
            self._json({"url": f"{self.server.address}/{name.removeprefix('models/')}"})
        elif parts[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            self._json({"files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in files]})
        elif parts[4:5] == ["commit"]:
            name = "/".join(parts[1:4])
            kept = self.server.repositories[name]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    kept[line["value"]["path"]] = b64decode(line["value"]["content"])
            address = f"{self.server.address}/{name.removeprefix('models/')}/commit/{OID}"
            self._json({"success": True, "commitOid": OID, "commitUrl": address})
        elif parts[1] in ("validate-yaml", "complete"):
            self._json({"errors": [], "warnings": []})
        else:
            self._json({"error": f"no {self.path}"}, 404)

    def do_GET(self) -> None:
        parts = self._parts()
        if parts[0] == "api" and parts[4:5] == ["revision"]:
            kept = self.server.repositories.get("/".join(parts[1:4]))
            if kept is None:
                self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            elif parts[5] not in (*self.server.revisions, OID):
                self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
            else:
                name = "/".join(parts[2:4])
                self._json({"id": name, "sha": OID, "siblings": [{"rfilename": path} for path in kept]})
        elif parts[0] == "api" and parts[4:5] == ["tree"]:
            kept = self.server.repositories["/".join(parts[1:4])]
            self._json(
                [{"type": "file", "path": path, "size": len(content), "oid": OID} for path, content in kept.items()]
            )
        elif parts[2:3] == ["resolve"]:
            content = self.server.repositories[f"models/{'/'.join(parts[:2])}"].get("/".join(parts[4:]))
            if content is None:
                self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
            self._send(content, 200, {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": OID})
        else:
            self._json({"error": f"no {self.path}"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...

    def _parts(self) -> list[str]:
        self.server.asked.append(f"{self.command} {self.path}")
        return unquote(self.path.split("?")[0]).strip("/").split("/")

    def _json(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(answer).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Stub]:
    stub = Stub()
    thread = Thread(target=stub.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()
        thread.join()
