from pathlib import Path

import pytest

from undistill.base.errors import UsageError
from undistill.names import draw_names
from undistill.prompts import Prompt, first_seed, make_prompts, numbered, read_prompts, write_prompts

PORTRAIT = "A professional portrait of {name}"


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


def test_a_byte_order_mark_is_none_of_the_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "prompt": "p", "seed": 1}\n', encoding="utf-8-sig")
    assert read_prompts(path) == [Prompt(id="a", prompt="p", seed=1)]


@pytest.mark.parametrize(("count", "skip"), [(100_000_000_000, 0), (1, 100_000_000_000)])
def test_refuses_more_prompts_than_fit(count: int, skip: int) -> None:
    with pytest.raises(UsageError, match=r"100,000,000,00[01] prompts don't fit in memory: .* 10,000,000"):
        make_prompts(PORTRAIT, count, 0, skip=skip)


@pytest.mark.parametrize("begins", [b"", b"\xef\xbb\xbf"])
def test_a_text_file_holds_a_prompt_a_line(begins: bytes, tmp_path: Path) -> None:
    texts = ["A portrait of Ada\u2028Okafor", "[a tree], {in} the rain"]
    path = tmp_path / "prompts.txt"
    path.write_bytes(begins + f" {texts[0]}\r\n\n{texts[1]}".encode())
    made = make_prompts("A tree", 2, 0)
    assert read_prompts(path) == [
        Prompt(id=each.id, prompt=text, seed=each.seed) for each, text in zip(made, texts, strict=True)
    ]
    write_prompts(made, path)  # JSON lines, whatever the name
    path.write_bytes(begins + path.read_bytes())
    assert read_prompts(path) == made


def test_broken_json_lines_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('[{"id": "a", "prompt": "p", "seed": 1}]\n')
    with pytest.raises(UsageError, match="line 1: prompt: Input should be an object"):
        read_prompts(path)


def test_numbers_prompts() -> None:
    assert [(prompt.id, prompt.seed) for prompt in numbered(["a", "b"], 5)] == [("000000", 5), ("000001", 6)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: prompt: Invalid JSON"),
        ("[]", "line 2: prompt: Input should be an object"),
        ('{"id": "b", "seed": 1}', "line 2: prompt: Field required"),
        ('{"id": "b", "prompt": "p", "sead": 1}', "line 2: unknown key sead; did you mean seed?; seed: Field required"),
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


def test_makes_prompts_of_different_people(tmp_path: Path) -> None:
    prompts = make_prompts(PORTRAIT, 50, 7)
    assert [prompt.id for prompt in prompts] == [f"{i:06d}" for i in range(50)]
    assert [prompt.name for prompt in prompts] == draw_names(50, 7)
    assert all(prompt.prompt == f"A professional portrait of {prompt.name}" for prompt in prompts)
    assert [prompt.seed for prompt in prompts] == list(range(first_seed(7), first_seed(7) + 50))
    assert prompts[:20] == make_prompts(PORTRAIT, 20, 7)
    write_prompts(prompts, tmp_path / "prompts.jsonl")
    assert read_prompts(tmp_path / "prompts.jsonl") == prompts


@pytest.mark.parametrize("template", [PORTRAIT, "A professional business portrait"])
def test_skipped_prompts_are_the_first(template: str, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("Ada Okafor\nKenji Mori\nUrsula Vogt\nOlu Ade\n")
    for file in (None, names) if template == PORTRAIT else (None,):
        assert make_prompts(template, 2, 3, file, skip=2) == make_prompts(template, 4, 3, file)[2:]


def test_names_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("{Ada}\u2028Okafor\n", encoding="utf-8")
    prompt = Prompt(id="000000", prompt="{Ada} Okafor {is} {Ada} Okafor", name="{Ada} Okafor", seed=first_seed(0))
    assert make_prompts("{name} {{is}} {name}", 1, 0, tmp_path / "names.txt") == [prompt]


def test_without_a_name_prompts_differ_by_seed() -> None:
    prompts = make_prompts("A professional business portrait", 1000, 7)
    assert {(prompt.prompt, prompt.name) for prompt in prompts} == {("A professional business portrait", "")}
    others = make_prompts("A professional business portrait", 1000, 8)
    # The lower 32 bits are all that torch's generator on the CPU looks at.
    assert len({prompt.seed % 2**32 for prompt in [*prompts, *others]}) == 2000


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("of {nam}", "'of {nam}' has an unknown field {nam}: {name} is the name"),
        ("of {}", "unknown field {}"),
        ("of {name.first}", "unknown field {name.first}"),
        ("of {name!r:>9}", "unknown field {name!r:>9}"),
        ("of {name", "can't be read (expected '}' before end of string)"),
        ("of name}", "can't be read (Single '}' encountered in format string)"),
        ("of \udcff {name}", "can't be read ('utf-8' codec can't encode"),
        (" ", "the template is empty"),
    ],
)
def test_refuses_a_bad_template(template: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        make_prompts(template, 1, 0)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_need_a_place_in_the_template(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no names"):
        make_prompts("A professional business portrait", 1, 0, tmp_path / "names.txt")
