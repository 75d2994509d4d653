"""What a GGUF file says of the model that it holds."""

from __future__ import annotations

import re

from tuneoff.records.base import Record

FLOATS = ("F32", "F16", "BF16", "F64")  # types that hold each weight by itself
TOLD = 0.005  # of the weights: a type that holds fewer (of the norms, mostly) is not told of


class GgufFile(Record):
    """A GGUF file, by its own metadata.

    Attributes:
        file: Its name.
        sha256: The hash of its name and content (`tuneoff.data.contents.hash_file`).
        architecture: What the file calls its architecture, such as `llama`.
        file_type: How most of its weights are held, such as `Q4_1`.
        types: How many weights are held in each type.
        license: The licence that the file names, if any.
        warnings: What was found odd when it was converted, a sentence each.
    """

    file: str
    sha256: str
    architecture: str
    file_type: str
    types: dict[str, int]
    license: str | None
    warnings: list[str]

    @property
    def weights(self) -> str:
        """How exactly the file holds the weights, such as `Q8_0 GGUF: weights rounded to 8 bits`."""
        total = sum(self.types.values())
        shares = {name: count / total for name, count in sorted(self.types.items(), key=lambda item: -item[1])}
        told = {name: share for name, share in shares.items() if share >= TOLD and name not in FLOATS}
        plain = [name for name, share in shares.items() if share >= TOLD and name in FLOATS]
        if not told:
            return f"{self.file_type} GGUF: weights in {' and '.join(plain)}"
        if len(told) == 1 and not plain:
            return f"{self.file_type} GGUF: weights rounded to {_bits(next(iter(told)))}"
        parts = [f"{100 * share:.0f} % to {_bits(name)} ({name})" for name, share in told.items()]
        rest = sum(share for name, share in shares.items() if name in plain)
        whole = f", {100 * rest:.0f} % in {' and '.join(plain)}" if plain else ""
        return f"{self.file_type} GGUF: weights rounded, {', '.join(parts)}{whole}"


def _bits(name: str) -> str:
    """What a type rounds weights to, by its name: Q4_K and MXFP4 hold 4 bits of each, beside a scale for a group."""
    bits = re.search(r"(?:Q|FP)(\d)", name)
    if name.startswith("TQ"):
        return "three values"
    return f"{bits[1]} bit{'s' if bits[1] != '1' else ''}" if bits else name
