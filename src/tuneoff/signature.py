"""What makes two numbers comparable, in one line.

After sacreBLEU's signatures (Post 2018, "A Call for Clarity in Reporting BLEU Scores"): a score
without its settings means nothing, and scores of different signatures are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping


def signature(fields: Mapping[str, str | int | float]) -> str:
    """`key:value|key:value…` in the order given. Raises ValueError on a value that would break it.

    `signature_fields` reads it again.
    """
    parts = []
    for key, value in fields.items():
        text = str(value)
        if "|" in text or ":" in key:
            raise ValueError(f"a signature's field cannot hold '|', nor its key ':'; got {key}={text!r}")
        parts.append(f"{key}:{text}")
    return "|".join(parts)


def signature_fields(text: str) -> dict[str, str]:
    """The fields of a signature, in its order."""
    return {key: value for key, _, value in (field.partition(":") for field in text.split("|"))}
