"""A row → the text that a model is asked by, whole or cut to a length: by a prompt's template, or as a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tuneoff.data.chat import render
from tuneoff.data.conversations import MESSAGES, Turn, as_text, as_turns
from tuneoff.data.prompt import Prompt
from tuneoff.errors import DataError
from tuneoff.recipe.schema import Recipe
from tuneoff.records import ChatFrame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_KEPT = 4  # of what is kept of a turn, one part in so many is its end: questions stand at a turn's beginning or end

Row = Mapping[str, str | None]
Spans = list[tuple[int, int]]


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

    def shorter(self, row: Row, over: int, spans: Callable[[str], Spans]) -> dict[str, str] | None:
        """The row with about `over` tokens less; None where nothing is left that may be cut.

        `spans` gives where in a text its tokens begin and end. What the template of a prompt or of a chat says is never
        cut.
        """
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

    def shorter(self, row: Row, over: int, spans: Callable[[str], Spans]) -> dict[str, str] | None:
        """See `Rendering.shorter`."""
        texts = {name: row.get(name) or "" for name in dict.fromkeys(self.columns)}
        found = _place_to_cut([texts[name] for name in texts], over, spans, _index(texts, self.truncate))
        if found is None:
            return None
        name = list(texts)[found.place]
        return {**texts, name: _without_end(texts[name], found.tokens, found.take)}


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
        turns = as_turns(row.get(MESSAGES) or "")
        if self.chat is None:
            return _plain(turns)
        if not self.chat.takes_system:
            turns = _system_in_user(turns)
        return render(self.tokenizer, [{"role": turn.role, "content": turn.content} for turn in turns])

    def shorter(self, row: Row, over: int, spans: Callable[[str], Spans]) -> dict[str, str] | None:
        """See `Rendering.shorter`."""
        turns = as_turns(row.get(MESSAGES) or "")
        first = next((n for n, turn in enumerate(turns) if turn.role != "system"), 0)
        later = [n for n in range(first + 1, len(turns)) if turns[n].role == "user"]
        dropped, start = 0, first
        for n in later:  # half of it at once, since the template's own words between the turns go with them
            dropped += sum(len(spans(turn.content)) for turn in turns[start:n])
            if start > first and 2 * dropped > over:
                break
            start = n
        if later:
            return {MESSAGES: as_text([*turns[:first], *turns[start:]])}
        found = _place_to_cut([turn.content for turn in turns], over, spans)
        if found is None:
            return None
        turn = turns[found.place]
        turns[found.place] = Turn(turn.role, _without_middle(turn.content, found.tokens, found.take))
        return {MESSAGES: as_text(turns)}


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


@dataclass(frozen=True)
class _Cut:
    """Which of several texts loses how many of its tokens; `tokens` is where each of them stands."""

    place: int
    tokens: Spans
    take: int


def _index(texts: Mapping[str, str], name: str | None) -> int | None:
    return list(texts).index(name) if name is not None and texts[name] else None


def _place_to_cut(
    texts: Sequence[str], over: int, spans: Callable[[str], Spans], named: int | None = None
) -> _Cut | None:
    """The text `named`, or else the longest, which loses no more than it is longer than the next, or half of `over`."""
    tokens = [spans(text) if text else [] for text in texts]
    if not any(texts):
        return None
    if named is not None:
        return _Cut(named, tokens[named], over)
    order = sorted(range(len(texts)), key=lambda n: (-len(tokens[n]), -len(texts[n])))
    lead = len(tokens[order[0]]) - (len(tokens[order[1]]) if len(order) > 1 else 0)
    return _Cut(order[0], tokens[order[0]], min(over, lead) if lead > 0 else -(-over // 2))


def _without_end(text: str, tokens: Spans, take: int) -> str:
    """`text` without its last `take` tokens, and shorter in any case."""
    keep = len(tokens) - take
    return text[: min(tokens[keep - 1][1], len(text) - 1)] if keep > 0 else ""


def _without_middle(text: str, tokens: Spans, take: int) -> str:
    """`text` with `take` tokens less in its middle, and shorter in any case."""
    keep = len(tokens) - take
    if keep <= 0:
        return ""
    end = keep // END_KEPT
    start = min(tokens[keep - end - 1][1], len(text) - 1)
    return text[:start] + text[max(tokens[len(tokens) - end][0], start + 1) :] if end else text[:start]
