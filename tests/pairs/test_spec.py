from pathlib import Path
from typing import Any

import pytest
import yaml

from undistill.base.errors import UsageError
from undistill.pairs.spec import PairSpec, make_spec, read_spec, shipped_pairs

PLAIN: dict[str, Any] = {
    "name": "plain",
    "size": 64,
    "dtype": "float32",
    "student": {"model": "quick", "steps": 4, "guidance": 0},
    "teacher": {"model": "slow", "steps": 50, "guidance": 3.5, "strength": 0.7},
}


def test_shipped_specs() -> None:
    others = ["flux1-gguf", "flux1-nf4", "flux1-realism", "sd35-turbo", "sdxl-turbo", "tiny-realism"]
    todays = ["flux2-klein", "qwen-image-lightning", "z-image-turbo"]
    assert sorted(shipped_pairs()) == sorted(["flux1", "tiny", *others, *todays])
    flux1, tiny = read_spec("flux1"), read_spec("tiny")
    for spec in (flux1, tiny):
        assert spec.student.guidance == 0
        assert (spec.teacher.steps, spec.teacher.guidance, spec.teacher.strength) == (50, 3.0, 0.7)
        assert spec.student.max_sequence_length == spec.teacher.max_sequence_length
    assert (flux1.student.model, flux1.size, flux1.dtype, flux1.head) == (
        "black-forest-labs/FLUX.1-schnell", 512, "bfloat16", "flux1",
    )  # fmt: skip
    assert (flux1.student.steps, tiny.student.steps) == (4, 1)  # docs/tiny.md says why
    assert flux1.teacher.rest == flux1.student.model
    realism = read_spec("tiny-realism")  # tiny but for the LoRA
    assert realism.student.lora == "tiny-realism-lora"
    assert realism.student.model_copy(update={"lora": None}) == tiny.student
    assert realism.teacher == tiny.teacher
    assert (tiny.student.rest, tiny.teacher.rest, tiny.size, tiny.dtype) == ("tiny-dev", None, 64, "float32")


def test_flux1s_variants_are_flux1_but_for_one_thing() -> None:
    flux1 = read_spec("flux1").model_dump()

    def changes(name: str) -> dict[str, Any]:
        other = read_spec(name).model_dump()
        found: dict[str, Any] = {}
        for key, value in other.items():
            if isinstance(value, dict):
                found |= {f"{key}.{inner}": value[inner] for inner in value if value[inner] != flux1[key][inner]}
            elif value != flux1[key]:
                found[key] = value
        return found

    assert changes("flux1-nf4") == {"name": "flux1-nf4", "quantised": "nf4"}
    assert set(changes("flux1-gguf")) == {"name", "student.gguf", "teacher.gguf"}
    assert changes("flux1-realism") == {
        "name": "flux1-realism",
        "head": None,
        "student.lora": "hugovntr/flux-schnell-realism/schnell-realism_v2.3.safetensors",
    }


def test_shipped_pairs_keep_their_hashes() -> None:
    """Data sets hold them; new keys of specs mustn't change them."""
    hashes = {name: read_spec(name).hash()[:8] for name in ("flux1", "tiny")}
    assert hashes == {"flux1": "427531f3", "tiny": "239e8c18"}


def test_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    spec = read_spec(path)
    assert isinstance(spec, PairSpec)
    assert spec.head is None
    assert make_spec(spec.model_dump(mode="json")) == spec


def test_the_hash_tells_what_images_depend_on() -> None:
    spec = make_spec(PLAIN)
    # Data sets keep it: it must not change with the code.
    assert spec.hash() == "655a980d7e5afaea997126acb63d700d7c13cfa05afb6c0536ed955bb5789a0e"
    same = {**PLAIN, "name": "other", "head": "flux1-lite", "student": {**PLAIN["student"], "rest": None}}
    assert make_spec(dict(reversed(same.items()))).hash() == spec.hash()
    for change in (
        {"size": 128},
        {"student": {**PLAIN["student"], "steps": 5}},
        {"student": {**PLAIN["student"], "gguf": "a.gguf"}},
        {"student": {**PLAIN["student"], "scheduler": {"shift": 3.0}}},
        {"teacher": {**PLAIN["teacher"], "start": "text", "strength": 1}},
        {"dtype": "bfloat16"},
        {"quantised": "int8"},
        {"tiling": True},
    ):
        assert make_spec({**PLAIN, **change}).hash() != spec.hash()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"haed": "flux1-lite"}, "unknown key haed; did you mean head?"),
        ({"student": {**PLAIN["student"], "step": 4}}, "student: unknown key step; did you mean steps?"),
        ({"student": {**PLAIN["student"], "strength": 1}}, "student: unknown key strength"),
        ({"teacher": PLAIN["student"]}, "teacher.strength: Field required"),
        ({"teacher": {**PLAIN["teacher"], "strength": 0.01}}, "teacher: 50 steps at strength 0.01 leave none to run"),
        (
            {"teacher": {**PLAIN["teacher"], "start": "text"}},
            "teacher: start: text is noise alone, which is strength: 1",
        ),
        ({"size": 500}, "size: Input should be a multiple of 16"),
        ({"size": 640_000}, "size: Input should be less than or equal to 8192"),
        ({"quantised": "int4"}, "quantised: Input should be 'int8' or 'nf4'"),
        ({"dtype": "int8"}, "dtype: Input should be 'float32', 'bfloat16' or 'float16'"),
        ({"name": "../up"}, "name: String should match pattern"),
    ],
)
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_spec({**PLAIN, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_what_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no pair 'flux2': neither a YAML file, nor shipped \(flux1, .*tiny-realism, z-image-turbo\)"
    ):
        read_spec("flux2")
    with pytest.raises(UsageError, match=r"pair spec .*gone\.yaml can't be read: No such file"):
        read_spec(tmp_path / "gone.yaml")
    for text in ("a: [", "just words", ""):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(UsageError, match=r"pair spec .*bad\.yaml"):
            read_spec(tmp_path / "bad.yaml")
