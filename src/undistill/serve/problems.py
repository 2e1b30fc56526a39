"""What is refused, as RFC 9457's problem+json: one sentence says what to do."""

from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

REASONS = {
    "malformed": (400, "The request's form can't be read."),
    "key": (401, "No key, or one that isn't known."),
    "origin": (403, "From a page, or under a name, that this service does not serve."),
    "path": (404, "There is nothing of this name."),
    "method": (405, "Another method is needed."),
    "slow": (408, "The request took too long to come."),
    "bytes": (413, "More bytes than are taken."),
    "pixels": (413, "More pixels than are taken."),
    "type": (415, "No image of a format that is read."),
    "invalid": (422, "An image or an option that can't be used."),
    "rate": (429, "More requests than the key may make; see Retry-After."),
    "failed": (500, "The service failed; it is not the request's fault."),
    "full": (503, "Every place in the queue is taken; see Retry-After."),
    "closing": (503, "The service is ending; see Retry-After."),
    "late": (504, "The work took longer than the service allows."),
}
"""Why something is refused, with the status and what the documentation says of it."""


class Problem(Exception):
    """A refusal.

    Args:
        reason: of `REASONS`.
        detail: one sentence that says what to do, with or without its full stop. It holds no path of this machine.
        headers: of the answer.
    """

    def __init__(self, reason: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail if detail.endswith((".", "?")) else f"{detail}."
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def status(self) -> int:
        """Of the answer."""
        return REASONS[self.reason][0]

    def response(self) -> JSONResponse:
        """The answer."""
        body = {
            "type": f"urn:undistill:{self.reason}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "enum": [f"urn:undistill:{reason}" for reason in REASONS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}


def documented(*reasons: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an operation that may be refused for these reasons, and those of every one."""
    said: dict[int | str, dict[str, Any]] = {}
    for reason in (*reasons, "key", "origin", "rate", "failed"):
        status, words = REASONS[reason]
        before = said.get(status, {}).get("description")
        example = {
            "type": f"urn:undistill:{reason}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": words,
        }
        said[status] = {
            "description": words if before is None else f"{before} {words}",
            "content": {"application/problem+json": {"schema": _SCHEMA, "example": example}},
        }
    return said
