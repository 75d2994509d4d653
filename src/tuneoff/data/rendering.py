"""A row → the text that a model is asked by, whole or cut to a length: by a prompt's template, or as a conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tuneoff.data.chat import render
from tuneoff.data.conversations import MESSAGES, Turn, as_text, as_turns
from tuneoff.data.cutting import Place
from tuneoff.data.prompt import Prompt
from tuneoff.errors import DataError
from tuneoff.recipe.schema import Recipe
from tuneoff.records import ChatFrame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "\0"  # a text that no turn has

Row = Mapping[str, str | None]


class Rendering(Protocol):
    """How a row's columns become what a model is asked.

    Attributes:
        columns: The columns that a row has.
        key: A text that differs from those of renderings that make or cut other texts.
        gap: What stands between a plain prompt of a decoder-only model and its target.
    """

    @property
    def columns(self) -> list[str]: ...

    @property
    def key(self) -> str: ...

    @property
    def gap(self) -> str: ...

    def text(self, row: Row) -> str:
        """All that the model is given, a chat template's text included. Raises DataError."""
        ...

    def shorter(self, row: Row) -> list[dict[str, str]]:
        """What may stand for a row that is too long, from the longest to the shortest."""
        ...

    def places(self, row: Row) -> list[Place]:
        """The parts of `text` that may be cut: not what the template of a prompt or of a chat says."""
        ...


def rendering_of(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, chat: ChatFrame | None) -> Rendering:
    """That of a recipe's rows; `chat` is what the model's chat template puts around a turn."""
    if recipe.prompt is None:
        return ConversationRendering(tokenizer, chat)
    return TemplateRendering(Prompt(recipe.prompt), recipe.data.truncate, chat)


@dataclass(frozen=True)
class TemplateRendering:
    """A prompt's template with the row's texts in it. The column `truncate`, or else the longest, loses its end."""

    prompt: Prompt
    truncate: str | None = None
    chat: ChatFrame | None = None

    @property
    def columns(self) -> list[str]:
        """Those of the template."""
        return self.prompt.columns

    @property
    def key(self) -> str:
        """See `Rendering`."""
        return repr((self.prompt.template, self.truncate))

    @property
    def gap(self) -> str:
        """A space, unless the prompt ends in white space of its own."""
        template = self.prompt.template
        return " " if template.rstrip() == template else ""

    def text(self, row: Row) -> str:
        """See `Rendering.text`."""
        filled = self.prompt.fill(row)
        return filled if self.chat is None else self.chat.around(filled)

    def shorter(self, row: Row) -> list[dict[str, str]]:
        """See `Rendering.shorter`."""
        return []

    def places(self, row: Row) -> list[Place]:
        """See `Rendering.places`."""
        found, filled = [], ""
        for literal, name in self.prompt.parts:
            filled += literal
            if name is not None:
                value = row.get(name) or ""
                found.append(Place(len(filled), len(filled) + len(value), first=name == self.truncate))
                filled += value
        if self.chat is None:
            return found
        begin, end = len(self.chat.before), len(self.chat.around(filled)) - len(self.chat.after)
        shift = begin - (len(filled) - len(filled.lstrip()) if self.chat.strips else 0)

        def shifted(place: int) -> int:
            return min(max(place + shift, begin), end)

        return [Place(shifted(place.start), shifted(place.end), first=place.first) for place in found]


@dataclass(frozen=True)
class ConversationRendering:
    """A conversation by the model's own chat template; as plain text where it has none and the user alone speaks.

    One that is too long loses its oldest turns. The last turn of the user stays; where it is too long by itself, it
    loses some of its middle, and so does the system's.
    """

    tokenizer: PreTrainedTokenizerBase
    chat: ChatFrame | None

    @property
    def columns(self) -> list[str]:
        """The conversation alone."""
        return [MESSAGES]

    @property
    def key(self) -> str:
        """See `Rendering`."""
        return repr((MESSAGES, self.tokenizer.chat_template if self.chat is not None else None))

    @property
    def gap(self) -> str:
        """A space."""
        return " "

    def text(self, row: Row) -> str:
        """See `Rendering.text`."""
        return self._rendered(as_turns(row.get(MESSAGES) or ""))

    def shorter(self, row: Row) -> list[dict[str, str]]:
        """See `Rendering.shorter`."""
        turns = as_turns(row.get(MESSAGES) or "")
        first = next((n for n, turn in enumerate(turns) if turn.role != "system"), 0)
        later = [n for n in range(first + 1, len(turns)) if turns[n].role == "user"]
        return [{MESSAGES: as_text([*turns[:first], *turns[n:]])} for n in later]

    def places(self, row: Row) -> list[Place]:
        """See `Rendering.places`. A turn stands where the template writes a mark in its place."""
        turns = as_turns(row.get(MESSAGES) or "")
        found, text = [], self._rendered(turns)
        for n, turn in enumerate(turns):
            marked = self._rendered([*turns[:n], Turn(turn.role, MARK), *turns[n + 1 :]])
            said = turn.content.strip()
            start = text.find(said, marked.find(MARK))
            if MARK in marked and start >= 0:  # or else the template writes something else
                found.append(Place(start, start + len(said), keeps_end=True))
        return found

    def _rendered(self, turns: Sequence[Turn]) -> str:
        if self.chat is None:
            return _plain(turns)
        if not self.chat.takes_system:
            turns = _system_in_user(turns)
        return render(self.tokenizer, [{"role": turn.role, "content": turn.content} for turn in turns])


def _plain(turns: Sequence[Turn]) -> str:
    """A single turn of the user, after the system's, as text. Raises DataError where there is more."""
    if [turn.role for turn in turns] not in (["user"], ["system", "user"]):
        raise DataError(
            "a conversation of several turns needs a model with a chat template, and this one is asked without: choose "
            "an instruct model, or data of single turns"
        )
    return "\n\n".join(turn.content for turn in turns)


def _system_in_user(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with the system's words before the first of the user, for a template that takes no system."""
    said = [turn.content for turn in turns if turn.role == "system"]
    rest = [turn for turn in turns if turn.role != "system"]
    if said and rest:
        rest[0] = Turn(rest[0].role, "\n\n".join([*said, rest[0].content]))
    return rest
