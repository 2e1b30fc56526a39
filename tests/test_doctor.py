import importlib.util
import json
import sys
import tomllib
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path

import pytest

from undistill import doctor
from undistill.doctor import WITHOUT, examine, to_json

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def test_every_extra_says_what_its_absence_costs() -> None:
    assert set(WITHOUT) == set(PROJECT["optional-dependencies"]) - {"dev"}


def test_what_is_here_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDISTILL_WEIGHTS", str(tmp_path))
    (tmp_path / "lpips_vgg.safetensors").touch()
    (tmp_path / "cache" / "rows").mkdir(parents=True)
    (tmp_path / "cache" / "rows" / "a").write_bytes(bytes(1000))
    found = json.loads(json.dumps(to_json(examine())))
    assert list(found) == ["versions", "devices", "room", "extras", "caches", "weights"]
    assert found["versions"]["torch"] == {"there": True, "says": version("torch")}
    assert found["devices"]["cpu"]["cores"] >= 1
    assert 0 < found["room"]["memory"]["free_bytes"] <= found["room"]["memory"]["bytes"]
    assert found["room"]["disk"]["free_bytes"] > 0
    cache = found["caches"]["undistill"]
    assert (cache["bytes"], cache["writable"], cache["folder"]) == (1000, True, str(tmp_path / "cache"))
    assert found["weights"]["VGG-16"]["says"] == str(tmp_path / "lpips_vgg.safetensors")
    clip = found["weights"]["openai/clip-vit-base-patch16"]
    assert clip["there"] or clip["remedy"] == "hf download openai/clip-vit-base-patch16"


def test_a_broken_torch_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    cpu = to_json(examine())["devices"]["cpu"]
    assert not cpu["there"]
    assert cpu["says"].startswith("torch can't be imported: ")


def test_what_is_missing_or_too_old_says_what_it_costs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found(name: str) -> ModuleSpec | None:
        return None if name == "dlib" else importlib.util.find_spec(name)

    monkeypatch.setattr(doctor, "find_spec", found)
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name in ("diffusers", "optuna") else version(name))
    (tmp_path / "file").touch()
    monkeypatch.setenv("UNDISTILL_CACHE", str(tmp_path / "file" / "cache"))
    parts = to_json(examine())
    faces = parts["extras"]["faces"]
    assert (faces["there"], faces["missing"]) == (False, ["dlib-bin"])
    assert "no identity, age and gender of faces" in faces["costs"]
    assert faces["remedy"] == "pip install 'undistill[faces]'"
    assert parts["extras"]["sweep"]["says"] == "optuna: 0.1, but >=4 is asked"
    assert parts["extras"]["cloud"]["missing"] == []
    assert parts["versions"]["diffusers"]["remedy"].startswith("pip install 'diffusers>=")
    assert not parts["caches"]["undistill"]["there"]
    assert "UNDISTILL_CACHE" in parts["caches"]["undistill"]["costs"]
