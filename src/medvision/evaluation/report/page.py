"""Pages from templates: self-contained HTML, and Markdown."""

import base64
import struct
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from medvision.evaluation.report.table import escape


def render_page(template: str, **content: Any) -> str:
    """Fill a template, `package/file` too: HTML escapes all text, Markdown what `md` is given."""
    return _pages().get_template(template).render(**content)


@cache
def _pages() -> Environment:
    pages = Environment(
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        loader=FunctionLoader(read_template),
        keep_trailing_newline=True,
    )
    pages.globals["css"] = Markup(read_template("report.css"))
    pages.filters["md"] = escape
    return pages


def read_template(name: str) -> str:
    """Return the text of a file in `templates/`, or of `package/file`."""
    package, _, file = name.rpartition("/")
    ours = resources.files("medvision.evaluation.report") / "templates"
    folder = resources.files(package) if package else ours
    return (folder / file).read_text(encoding="utf-8")


def read_sentences(name: str) -> dict[str, str]:
    """Return the templates of sentences in a file: name → template."""
    return dict(tomllib.loads(read_template(name))["sentences"])


def embed_figure(path: Path) -> dict[str, Any]:
    """Return what an `img` needs to show a PNG without its file: data, width, height."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the header every PNG starts with
    return {"data": base64.b64encode(data).decode(), "width": width, "height": height}
