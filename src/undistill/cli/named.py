"""What several verbs take: NAME=DIR."""

from collections.abc import Sequence
from pathlib import Path

from undistill.base.errors import UsageError


def named_folder(text: str, option: str = "") -> tuple[str, Path]:
    """A name and its folder; see `named_folders`."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"{_before(option)}{text!r}: write NAME=DIR")
    return name, Path(folder)


def named_folders(texts: Sequence[str], option: str = "") -> dict[str, Path]:
    """The folders by name.

    Args:
        option: what they were given to, for messages.

    Raises:
        UsageError: one is not of the form NAME=DIR, or a name is given twice.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, folder = named_folder(text, option)
        if name in folders:
            raise UsageError(f"{_before(option)}{name} is given twice")
        folders[name] = folder
    return folders


def _before(option: str) -> str:
    return f"{option} " if option else ""
