from pathlib import Path

from research.release import ROOT, lacking

PACKAGE, NODE = ROOT / "pyproject.toml", ROOT / "integrations" / "comfyui" / "pyproject.toml"


def test_an_empty_publisher_holds_a_release_back(tmp_path: Path) -> None:
    text = NODE.read_text()
    filled = text.replace('PublisherId = ""', 'PublisherId = "somebody"').replace('Repository = ""', 'Repository = "x"')
    (tmp_path / "filled.toml").write_text(filled)
    assert lacking(PACKAGE, tmp_path / "filled.toml") == []
    (tmp_path / "empty.toml").write_text(filled.replace('"somebody"', '""'))
    (reason,) = lacking(PACKAGE, tmp_path / "empty.toml")
    assert "PublisherId is empty" in reason
    (tmp_path / "old.toml").write_text(filled.replace('version = "0.1.0"', 'version = "0.0.9"'))
    (reason,) = lacking(PACKAGE, tmp_path / "old.toml")
    assert "version 0.0.9, undistill's is" in reason
