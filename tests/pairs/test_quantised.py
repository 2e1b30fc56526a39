"""`flux1-nf4`, `flux1-gguf` and int8 on miniatures: loaded, held in fewer bits, drawn with, nearly as without."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from huggingface_hub import constants

from tests.pairs.test_generator import PROMPTS, changed
from undistill.base.errors import Failure, UsageError
from undistill.pairs import load as module
from undistill.pairs.generator import Generator
from undistill.pairs.place import weight_bytes
from undistill.pairs.spec import PairSpec, make_spec

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="diffusers uses bitsandbytes on a GPU alone")


@pytest.fixture(scope="module")
def plain(miniature: Path) -> Generator:
    return Generator(miniature, "cpu")


def quantised(miniature: Path, bits: str | None, **sides: Any) -> PairSpec:
    return make_spec({**changed(miniature, **sides).model_dump(), "quantised": bits})


def write_gguf(transformer: Path, file: Path) -> Path:
    """The transformer's matrices as Q8_0, where their rows have whole blocks of 32; all else in float32."""
    import gguf

    writer = gguf.GGUFWriter(file, "flux")
    q8 = gguf.GGMLQuantizationType.Q8_0
    for name, tensor in FluxTransformer2DModel.from_pretrained(transformer).state_dict().items():
        values = tensor.numpy()
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quants.quantize(values, q8), raw_dtype=q8)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def both(generator: Generator, start: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images of both sides; the teacher begins with the other generator's."""
    student = start.student(PROMPTS, [1, 2])
    return generator.student(PROMPTS, [1, 2]), generator.teacher(PROMPTS, [1, 2], student)


@pytest.mark.parametrize(
    ("bits", "library", "most"),
    [("int8", "torchao", 0.6), pytest.param("nf4", "bitsandbytes", 0.5, marks=[pytest.mark.gpu, GPU])],
)
def test_denoisers_and_t5_are_held_in_fewer_bits(
    miniature: Path, plain: Generator, bits: str, library: str, most: float
) -> None:
    pytest.importorskip(library)
    generator = Generator(quantised(miniature, bits), "cpu" if bits == "int8" else "cuda")
    parts = {name: part for name, part in generator._student.components.items() if isinstance(part, torch.nn.Module)}
    smaller = {
        name
        for name, part in parts.items()
        if weight_bytes(part) < most * weight_bytes(plain._student.components[name])
    }
    assert smaller == {"transformer", "text_encoder_2"}
    assert generator._teacher.text_encoder_2 is generator._student.text_encoder_2
    for images, exact in zip(both(generator, plain), both(plain, plain), strict=True):
        assert 0 < np.abs(images.astype(int) - exact).mean() < 6


def test_denoisers_from_gguf_files(miniature: Path, plain: Generator, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    folder = miniature.parent
    schnell, dev = (
        str(write_gguf(folder / side / "transformer", tmp_path / f"{side}-Q8_0.gguf")) for side in ("schnell", "dev")
    )
    generator = Generator(quantised(miniature, None, student={"gguf": schnell}, teacher={"gguf": dev}), "cpu")
    assert weight_bytes(generator._student.transformer) < 0.5 * weight_bytes(plain._student.transformer)
    assert weight_bytes(generator._student.text_encoder_2) == weight_bytes(plain._student.text_encoder_2)
    for images, exact in zip(both(generator, plain), both(plain, plain), strict=True):
        assert 0 < np.abs(images.astype(int) - exact).mean() < 3
    # The folder's own transformer isn't loaded.
    alone = Generator(quantised(miniature, None, student={"model": str(folder / "dev"), "gguf": dev}), "cpu")
    assert weight_bytes(alone._student.transformer) < 0.5 * weight_bytes(plain._teacher.transformer)
    assert alone._teacher.transformer is not alone._student.transformer


@pytest.mark.skipif(torch.cuda.is_available(), reason="is for machines without a GPU")
def test_nf4_without_a_gpu_is_one_line(miniature: Path) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(Failure, match="can't be loaded: No GPU found") as error:
        Generator(quantised(miniature, "nf4"), "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("bits", "library"), [("int8", "torchao"), ("nf4", "bitsandbytes"), (None, "gguf")])
def test_a_missing_library_is_one_line(
    miniature: Path, bits: str | None, library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == library else importlib.util.find_spec(name))
    sides = {} if bits else {"student": {"gguf": str(tmp_path / "a.gguf")}}
    with pytest.raises(Failure, match=rf"quantised weights need {library}, .* \(pip install {library}\)"):
        Generator(quantised(miniature, bits, **sides), "cpu")


def test_gguf_files_are_found_or_refused_in_one_line(
    miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def refuses(file: str, words: str) -> None:
        with pytest.raises((Failure, UsageError)) as error:
            Generator(quantised(miniature, None, student={"gguf": file}), "cpu")
        assert words in str(error.value)
        assert "\n" not in str(error.value)

    refuses("gone.gguf", "no weights 'gone.gguf': neither a file, nor one on the hub (owner/name/file.gguf)")
    refuses("city96/FLUX.1-dev-gguf/flux1-dev-Q8_0.gguf", "city96/FLUX.1-dev-gguf is not downloaded yet")
    (tmp_path / "broken.gguf").write_bytes(b"no weights")
    refuses(str(tmp_path / "broken.gguf"), "can't be loaded: ")
