"""Text as a person should see it: what would act on a terminal or turn a line around is shown in its place."""

from __future__ import annotations

import re

# Control characters but tab and newline, and the marks that change the direction of what follows (Unicode UAX 9), with
# which a line can be made to read as another: https://trojansource.codes
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""`text` with its hidden characters as Python writes them: an escape becomes the four characters `\x1b`."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
