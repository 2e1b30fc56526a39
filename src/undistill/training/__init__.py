"""Training: from a recipe and images to a head. The shipped recipes are found by name."""

from importlib.resources import files
from pathlib import Path

from undistill.base.errors import UsageError

_PACKAGE = Path(str(files("undistill")))
RECIPES = _PACKAGE / "recipes" if (_PACKAGE / "recipes").is_dir() else _PACKAGE.parents[1] / "recipes"
"""In the package where it is installed; in a checkout at the repository's root."""


def shipped_recipes() -> dict[str, str]:
    """By name, like `portraits-lite` and `tiny/best`, what each one says of itself in its first line."""
    found = {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in RECIPES.rglob("*.yaml")}
    return {name: found[name].read_text(encoding="utf-8").partition("\n")[0].strip("# :") for name in sorted(found)}


def find_recipe(name: Path) -> Path:
    """The file of a recipe or a sweep: a path, or the name of a shipped one.

    Raises:
        UsageError: neither is there.
    """
    if name.is_file() or name.suffix:  # that a file can't be read is told where it is read
        return name
    if name.as_posix() not in shipped_recipes():
        raise UsageError(f"there is no recipe {name}: give a YAML file, or a name that `undistill recipes` lists")
    return RECIPES / f"{name.as_posix()}.yaml"
