from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, utils

from tests.hub.stub import Stub, serving


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    """A hub on loopback, which huggingface_hub takes for the real one, with a cache of its own."""
    with serving() as stub:
        monkeypatch.setattr(constants, "ENDPOINT", stub.address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", stub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setenv("HF_TOKEN", "hf_stub")
        utils.close_session()
        yield stub
    utils.close_session()
