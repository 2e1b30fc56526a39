import logging
import sys
from pathlib import Path

import pytest

from undistill.base.errors import Failure
from undistill.base.libraries import quiet


def test_quiet_leaves_things_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    from diffusers.utils import logging as diffusers
    from huggingface_hub import utils as hub
    from transformers.utils import logging as transformers

    for library in (diffusers, transformers):
        library.set_verbosity(logging.INFO)
        library.enable_progress_bar()
    with quiet():
        assert not transformers.is_progress_bar_enabled()
        assert diffusers.get_verbosity() == logging.ERROR
        assert not hub.are_progress_bars_disabled()  # of downloads
    for library in (diffusers, transformers):
        assert library.get_verbosity() == logging.INFO
        assert library.is_progress_bar_enabled()
        library.set_verbosity_warning()
    hub.disable_progress_bars()
    with quiet():
        assert hub.are_progress_bars_disabled()
    assert hub.are_progress_bars_disabled()
    hub.enable_progress_bars()


def test_a_torchvision_that_does_not_fit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist\\nand more')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    words = r"^torchvision does not fit torch 2\..*nms does not exist\): install"
    with pytest.raises(Failure, match=words) as error, quiet("transformers"):
        raise AssertionError
    assert "\n" not in str(error.value)
