"""Text in Markdown: as itself, in a quotation, in a code block. Nothing in it is taken for a mark."""

from __future__ import annotations

import re

from tuneoff.visible import visible


def plain(text: str) -> str:
    """A text in one line, its marks escaped."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", visible(" ".join(text.split())))


def quoted(text: str) -> str:
    """The same for a quotation, which is not empty."""
    return plain(text) or "(empty)"


def code(text: str) -> str:
    """A text in one line as code. It loses its backticks, which would end it."""
    return f"`{visible(' '.join(text.split())).replace('`', '')}`"


def fenced(text: str, language: str = "") -> str:
    """A code block, whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text).rstrip()}\n{fence}"
