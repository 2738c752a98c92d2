"""HTML pages of the package: one environment for their templates, and pictures inside them."""

from __future__ import annotations

import base64
from importlib.resources import files

import jinja2


def environment() -> jinja2.Environment:
    """Return what reads the templates beside this module; texts are escaped, and an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files("tollgate").joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def embedded(svg: str) -> str:
    """Return a picture as a data URI: apart from the page, so that the names inside two of them cannot clash."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
