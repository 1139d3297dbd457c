"""Sphinx settings. The source directory is the root of the repository, see `tox -e docs`."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "muxwire"
author = "The muxwire authors"
copyright = author
release = installed_version("muxwire")

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "spec/README.md", "spec/text/*.md"]

myst_heading_anchors = 3
html_theme = "furo"
html_title = "muxwire"

REQUIREMENT = re.compile(r"(?:[A-Z]{3}|P\d)-\d{3}")


def anchor_requirements(app: Sphinx, doctree: nodes.document) -> None:  # noqa: ARG001
    """Make every requirement a link target, as in `spec/text/02-framing.html#FRM-002`."""
    for quote in doctree.findall(nodes.block_quote):
        label = next(iter(quote.findall(nodes.strong)), None)
        if label is not None and REQUIREMENT.fullmatch(label.astext()):
            label["ids"].append(label.astext())


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", anchor_requirements)
