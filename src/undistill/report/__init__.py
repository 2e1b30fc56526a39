"""results.json as pages, each one self-contained file: the frame of them, from templates/."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from undistill.base.files import replacing

_TEMPLATES = Environment(
    loader=PackageLoader("undistill.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **parts: Any) -> str:
    """A template of templates/ with its parts, as HTML."""
    return _TEMPLATES.get_template(template).render(**parts)


def write_html(template: str, path: Path, **parts: Any) -> None:
    """Write a template with its parts; the page is there whole or not at all."""
    html = render(template, **parts)
    with replacing(path) as beside:
        beside.write_text(html, encoding="utf-8")
