"""What several verbs take: NAME=DIR."""

from collections.abc import Sequence
from pathlib import Path

from undistill.errors import UsageError


def named_folders(texts: Sequence[str], option: str = "") -> dict[str, Path]:
    """The folders by name.

    Args:
        option: what they were given to, for messages.

    Raises:
        UsageError: one is not of the form NAME=DIR, or a name is given twice.
    """
    folders: dict[str, Path] = {}
    before = f"{option} " if option else ""
    for text in texts:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"{before}{text!r}: write NAME=DIR")
        if name in folders:
            raise UsageError(f"{before}{name} is given twice")
        folders[name] = Path(folder)
    return folders
