"""A prompt template: text with `{column}` in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter

from tuneoff.recipe.schema import prompt_columns
from tuneoff.records import ChatFrame


@dataclass(frozen=True)
class Prompt:
    """The template of a recipe. `{{` and `}}` stand for braces."""

    template: str

    @property
    def columns(self) -> list[str]:
        """The columns that the template names."""
        return prompt_columns(self.template)

    @property
    def tail(self) -> str:
        """The text after the last column: what a truncated prompt must keep."""
        parts = list(Formatter().parse(self.template))
        return parts[-1][0] if parts[-1][1] is None else ""

    def fill(self, columns: Mapping[str, str | None]) -> str:
        """The prompt for one row, in which a column may be missing. A brace inside a value stays as it is."""
        return "".join(
            literal + ((columns.get(name) or "") if name is not None else "")
            for literal, name, _, _ in Formatter().parse(self.template)
        )


def around_template(chat: ChatFrame | None, template: str) -> str:
    """`template` with a chat template's own text around it."""
    if chat is None:
        return template
    before, after = (text.replace("{", "{{").replace("}", "}}") for text in (chat.before, chat.after))
    return f"{before}{template.strip() if chat.strips else template}{after}"
