"""Whatever is sent, no answer is a 500, and none lies outside what /openapi.json says."""

import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from research.faults.mutation import mutated

from tests.serve.conftest import Serving, picture
from tests.serve.test_pair import Painter
from undistill.serve.app import Limits, make_app
from undistill.serve.faces import FACES
from undistill.serve.pair import ServedPair
from undistill.serve.work import Work

EXAMPLES = 12
"""Of each operation."""


def _hold(operation: Any, asked: list[Any], statuses: dict[str, set[int]]) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def hold(case: Any) -> None:
        reply = case.call()
        statuses.setdefault(case.path, set()).add(reply.status_code)
        case.validate_response(reply, checks=asked)

    hold()


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore")
def test_answers_are_those_that_the_schema_says(work: Work) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install 'undistill[dev]'")
    from schemathesis import checks

    app = make_app(work, Limits(local=False), ServedPair(Painter(), work.heads["tiny-best"], work))  # type: ignore[arg-type]
    warm = TestClient(app).post("/v1/enhance?where=face", files={"image": picture()})
    assert warm.status_code in (200, 422)  # dlib's models take seconds to load, and schemathesis waits for ten
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    names = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
    asked = [checks.CHECKS.get_one(name) for name in names]
    statuses: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        _hold(result.ok(), asked, statuses)
    faces = {"/v1/faces"} if FACES else set()
    assert set(statuses) == faces | {"/v1/enhance", "/v1/generate", "/v1/compare", "/v1/heads", "/readyz", "/metrics"}
    assert 200 in statuses["/v1/generate"]
    assert statuses["/v1/enhance"] <= {200, 400, 413, 415, 422}
    without = schemathesis.openapi.from_asgi("/openapi.json", make_app(work, Limits(local=False)))
    for operation in (result.ok() for result in without.get_all_operations()):
        if operation.path == "/v1/compare":  # of images, where there is no pair
            statuses.pop("/v1/compare")
            _hold(operation, asked, statuses)
    assert statuses["/v1/compare"] <= {200, 400, 413, 415, 422}


def test_the_schema_has_examples(serving: Serving) -> None:
    schema = serving().get("/openapi.json").json()
    operation = schema["paths"]["/v1/enhance"]["post"]
    assert {"multipart/form-data", "image/png"} <= set(operation["requestBody"]["content"])
    assert operation["responses"]["503"]["content"]["application/problem+json"]["example"]["type"]
    assert "Undistill-Hash" in operation["responses"]["200"]["headers"]
    assert "/root" not in json.dumps(schema)


def test_broken_bodies_are_refused_and_no_worker_is_lost(serving: Serving, work: Work) -> None:
    client = serving()
    whole = {
        "png": picture(),
        "jpeg": picture(format="JPEG"),
        "webp": picture(format="WEBP"),
        "gif": picture(format="GIF"),
    }
    random = np.random.default_rng(5)
    statuses = []
    for number in range(30):
        kind, other = (list(whole)[int(place)] for place in random.integers(len(whole), size=2))
        body = mutated(whole[kind], whole[other], random)
        sent = (
            {"content": body, "headers": {"Content-Type": f"image/{kind}"}}
            if number % 2
            else {"files": {"image": body}}
        )
        statuses.append(client.post("/v1/enhance", **sent).status_code)
    assert set(statuses) <= {200, 400, 413, 415, 422}
    assert 422 in statuses
    assert work.taken == 0
    assert client.post("/v1/enhance", files={"image": picture()}).status_code == 200
