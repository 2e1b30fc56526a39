from pathlib import Path

import pytest

from undistill.errors import UsageError
from undistill.prompts import Prompt, numbered, read_prompts


def test_reads_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"id": "a-1", "prompt": "A portrait of Ada\\u2028Okafor", "name": "Ada Okafor", "seed": 7}\n\n'
        '{"id": "b", "prompt": "A tree\u2028in the rain", "seed": 0}\n'
    )
    assert read_prompts(path) == [
        Prompt(id="a-1", prompt="A portrait of Ada\u2028Okafor", name="Ada Okafor", seed=7),
        Prompt(id="b", prompt="A tree\u2028in the rain", seed=0),
    ]


def test_numbers_prompts() -> None:
    assert [(prompt.id, prompt.seed) for prompt in numbered(["a", "b"], 5)] == [("000000", 5), ("000001", 6)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: prompt: Invalid JSON"),
        ("[]", "line 2: prompt: Input should be an object"),
        ('{"id": "b", "seed": 1}', "line 2: prompt: Field required"),
        ('{"id": "b", "prompt": "p", "sead": 1}', "line 2: seed: Field required; unknown key sead; did you mean seed?"),
        ('{"id": "../b", "prompt": "p", "seed": 1}', "line 2: id: String should match pattern"),
        ('{"id": "b", "prompt": "p", "seed": -1}', "line 2: seed: Input should be greater than or equal to 0"),
        ('{"id": "a", "prompt": "p", "seed": 1}', "line 2: id a is line 1's already"),
    ],
)
def test_refuses_a_bad_line(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"id": "a", "prompt": "p", "seed": 1}}\n{line}\n')
    with pytest.raises(UsageError) as error:
        read_prompts(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_files_without_prompts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(tmp_path / "gone.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UsageError, match="no prompt inside"):
        read_prompts(tmp_path / "empty.jsonl")
    (tmp_path / "image.jsonl").write_bytes(b"\x89PNG\xff")
    with pytest.raises(UsageError, match="can't be read"):
        read_prompts(tmp_path / "image.jsonl")
