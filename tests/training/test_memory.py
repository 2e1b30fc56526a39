from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.test_run import recipe
from undistill.base.device import is_out_of_memory
from undistill.base.errors import Failure
from undistill.dataset.samples import ImageFolders
from undistill.training.run import train


def test_torchs_words_for_too_little_memory_are_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_too_little_memory_of_a_cpu_is_one_line(
    image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ImageFolders([image_folder("student", 12)], [image_folder("teacher", 12)])
    monkeypatch.setattr("undistill.training.run.fit", lambda *_, **__: torch.empty(2**58, dtype=torch.uint8))
    with pytest.raises(Failure, match="too little memory for batches of 2") as error:
        train(recipe("paired"), source, tmp_path / "run", device="cpu")
    assert "\n" not in str(error.value)
