"""The frame of every page: one self-contained file, from templates/."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from undistill.atomic import replacing

_TEMPLATES = Environment(
    loader=PackageLoader("undistill.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_html(template: str, path: Path, **parts: Any) -> None:
    """Write a template of templates/ with its parts; the page is there whole or not at all."""
    html = _TEMPLATES.get_template(template).render(**parts)
    with replacing(path) as beside:
        beside.write_text(html, encoding="utf-8")
