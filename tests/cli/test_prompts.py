import subprocess
import sys
from pathlib import Path

import pytest

from tests.base.test_full_disk import full
from tests.cli.conftest import Run
from undistill.cli import main
from undistill.prompts import read_prompts


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "undistill", "prompts", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "new" / "two.jsonl"
    for out in (one, two):
        done = process("--names", "faker", "--count", 200, "--seed", 7, "-o", out)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"200 prompts -> {out}\n"
    assert one.read_bytes() == two.read_bytes()
    prompts = read_prompts(one)
    assert len({prompt.name for prompt in prompts}) == 200
    assert prompts[0].prompt == f"A professional portrait of {prompts[0].name}"
    assert one.read_text(encoding="utf-8").startswith('{"id":"000000","prompt":"A professional portrait of ')


def test_other_prompts_are_replaced_by_overwrite_alone(tmp_path: Path, undistill: Run) -> None:
    out, names = tmp_path / "prompts.jsonl", tmp_path / "names.txt"
    names.write_text("Ada\nBen\nCleo\n")
    command = ("prompts", "--names", names, "-o", out)
    assert undistill(*command, "--count", 2)[0] is None
    before = out.read_bytes()
    assert undistill(*command, "--count", 2)[0] is None
    code, _, errors = undistill(*command, "--count", 3)
    assert code == 2
    assert "prompts.jsonl was made with other prompts: --overwrite replaces it; or give another name" in errors
    assert out.read_bytes() == before
    assert undistill(*command, "--count", 3, "--overwrite")[0] is None
    assert len(read_prompts(out)) == 3
    out.write_text("mine")
    assert "not made by this command" in undistill(*command, "--count", 3, "--overwrite")[2]
    assert out.read_text() == "mine"
    out.write_text("")
    assert undistill(*command, "--count", 3)[0] is None


def test_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom undistill.cli import main\nmain()\n"
    arguments = ("prompts", "--count", 3, "--template", "A professional business portrait", "-o", tmp_path / "p.jsonl")
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
    assert {prompt.prompt for prompt in read_prompts(tmp_path / "p.jsonl")} == {"A professional business portrait"}


def test_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, names = tmp_path / "prompts.jsonl", tmp_path / "names.txt"
    names.write_text("Ada\nBen\n")

    def refuses(words: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["undistill", "prompts", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading names")]
        assert end.value.code == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("undistill: ")
        assert words in lines[0]

    refuses("--count", "--count", 0, "-o", out)
    refuses("--count", "-o", out)
    refuses("--seed", "--count", 1, "--seed", -1, "-o", out)
    refuses("-o", "--count", 1)
    refuses("is no file; -o takes a file", "--count", 1, "-o", tmp_path)
    refuses("is no file; -o takes a file", "--count", 1, "-o", "/dev/null")
    refuses("would be overwritten by the prompts", "--count", 1, "--names", names, "-o", names)
    refuses("can't be read: No such file", "--count", 1, "--names", tmp_path / "gone.tsv", "-o", out)
    refuses("2 different names, 3 are wanted", "--count", 3, "--names", names, "-o", out)
    refuses("unknown field {nam}", "--count", 1, "--template", "of {nam}", "-o", out)
    refuses("takes no names", "--count", 1, "--template", "A tree", "--names", names, "-o", out)
    (tmp_path / "picture.png").write_bytes(b"theirs")
    refuses("picture.png is there and not made by this command", "--count", 1, "-o", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.txt", "picture.png"]
    assert names.read_text() == "Ada\nBen\n"


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["undistill", "prompts", "--count", "1000", "--seed", "0", "-o", "prompts.jsonl"])
    with full(), pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert (end.value.code, said) == (1, "undistill: prompts.jsonl: File too large")
    assert not list(tmp_path.iterdir())
