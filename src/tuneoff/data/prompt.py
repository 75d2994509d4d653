"""A prompt template: text with `{column}` in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from tuneoff.recipe.schema import prompt_columns


@dataclass(frozen=True)
class Prompt:
    """The template of a recipe. `{{` and `}}` stand for braces."""

    template: str

    @property
    def columns(self) -> list[str]:
        """The columns that the template names."""
        return prompt_columns(self.template)

    @property
    def parts(self) -> list[tuple[str, str | None]]:
        """The template's own words, each part with the column that follows it, or None."""
        return [(literal, name) for literal, name, _, _ in Formatter().parse(self.template)]

    def fill(self, columns: Mapping[str, str | None]) -> str:
        """The prompt for one row, in which a column may be missing. A brace inside a value stays as it is."""
        return "".join(
            literal + ((columns.get(name) or "") if name is not None else "") for literal, name in self.parts
        )
