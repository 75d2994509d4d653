"""Conversations: the layouts that data sets have for them, and one that they are all brought to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from tuneoff.data.rows import Row
from tuneoff.errors import DataError

MESSAGES, TARGET = "messages", "target"  # the columns of the rows that `as_rows` makes
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip
_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value")


@dataclass(frozen=True)
class Turn:
    """What the system, the user or the assistant says."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Layout:
    """A way in which rows hold conversations.

    Attributes:
        name: For people.
        turns: A row's columns → its turns. Raises ValueError, which says what is wrong with the row.
    """

    name: str
    turns: Callable[[Mapping[str, Any]], list[Turn]]


def find_layout(columns: Mapping[str, Any], messages: str | None, *, answered: bool = True) -> Layout:
    """The layout of rows like this one; `messages` is the column that the recipe names. Raises DataError.

    Rows that are not `answered` may lack the column of the answer.
    """
    if messages is not None:
        if messages not in columns:
            raise DataError(f"the data has no column {messages!r}; it has {', '.join(map(str, columns))}")
        return _in_column(messages, columns[messages])
    for name in ("messages", "conversations", "conversation"):
        if name in columns:
            return _in_column(name, columns[name])
    if "instruction" in columns and ("output" in columns or not answered):
        return Layout("Alpaca (instruction, input, output)", _of_alpaca)
    if "prompt" in columns and ("completion" in columns or not answered):
        return Layout("prompt and completion", _of_completion)
    raise DataError(
        f"no layout of conversations has the columns {', '.join(map(str, columns))}: name data.messages (a column of "
        "role and content), or data.input and data.target for texts"
    )


def as_rows(
    rows: Iterable[Row], messages: str | None, train_on: Literal["last", "all"], group: str | None = None
) -> tuple[str | None, Iterator[Row]]:
    """The name of the rows' layout, and the rows with a column `messages` (what is asked) and `target` (the answer).

    With `last`, the target is the last turn of the assistant, and what comes after it is left out; with `all`, there is
    a row for each of the assistant's turns, with all that was said before it. The column `group` is kept.
    Raises DataError where there is no such
    layout.
    """
    stream = iter(rows)
    begun: list[Row] = []
    for row in stream:
        begun.append(row)
        if row.unreadable is None:
            break
    if not begun or begun[-1].unreadable is not None:
        return None, iter(begun)
    layout = find_layout(begun[-1].columns, messages)
    return layout.name, _converted(chain(begun, stream), layout, train_on, group)


def _converted(
    rows: Iterable[Row], layout: Layout, train_on: Literal["last", "all"], group: str | None
) -> Iterator[Row]:
    for row in rows:
        if row.unreadable is not None:
            yield row
            continue
        try:
            turns = _from_question(layout.turns(row.columns))
            answers = [n for n, turn in enumerate(turns) if turn.role == "assistant" and _is_asked(turns[:n])]
            if not answers:
                raise ValueError(f"has no answer of the assistant to one of the user, as {layout.name}")
        except ValueError as error:
            yield Row({}, row.where, str(error))
            continue
        own = {name: row.columns[name] for name in ("id", group) if name and row.columns.get(name) is not None}
        for count, n in enumerate(answers if train_on == "all" else answers[-1:]):
            columns = {**own, MESSAGES: as_text(turns[:n]), TARGET: turns[n].content}
            yield Row(columns, row.where, lines=row.lines, again=count > 0)


def question_of(columns: Mapping[str, Any], layout: Layout) -> str:
    """What a row asks, as text: its conversation up to the user's last turn. Raises ValueError."""
    turns = _from_question(layout.turns(columns))
    while turns and turns[-1].role == "assistant":
        turns.pop()
    if not _is_asked(turns):
        raise ValueError("has no turn of the user")
    return as_text(turns)


def _from_question(turns: Sequence[Turn]) -> list[Turn]:
    """The turns without what the assistant says before the user does, such as a greeting: templates refuse it."""
    first = next((n for n, turn in enumerate(turns) if turn.role == "user"), len(turns))
    return [turn for n, turn in enumerate(turns) if n >= first or turn.role == "system"]


def _is_asked(turns: Sequence[Turn]) -> bool:
    return any(turn.role == "user" for turn in turns)


def as_text(turns: Sequence[Turn]) -> str:
    """Turns as one text: the user's words where there are no others, or else JSON in OpenAI's layout."""
    if len(turns) == 1 and turns[0].role == "user" and as_turns(turns[0].content) == list(turns):
        return turns[0].content
    return json.dumps([{"role": turn.role, "content": turn.content} for turn in turns], ensure_ascii=False)


def as_turns(text: str) -> list[Turn]:
    """The turns of which `as_text` made a text. Any other text is what the user says."""
    if text.lstrip().startswith("["):
        try:
            turns = [_turn(message, MESSAGES) for message in json.loads(text)]
        except (ValueError, TypeError, RecursionError):
            turns = []
        if turns:
            return turns
    return [Turn("user", text)]


def last_question(text: str) -> str:
    """What the user says last in the turns of which `as_text` made a text."""
    return next(turn.content for turn in reversed(as_turns(text)) if turn.role == "user")


def shown(turns: Sequence[Turn]) -> str:
    """Turns as a person reads them: the user's words alone where nobody else says anything."""
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def _in_column(name: str, value: Any) -> Layout:
    """The layout of a column that holds lists of messages."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    first = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}
    kind = "ShareGPT" if "from" in first else "OpenAI"
    keys = "from, value" if "from" in first else "role, content"

    def turns(columns: Mapping[str, Any]) -> list[Turn]:
        found = columns.get(name)
        if isinstance(found, str):  # as csv files hold it
            try:
                found = json.loads(found)
            except (ValueError, RecursionError):
                raise ValueError(f"has no list of messages in {name!r}") from None
        if found is None:
            raise ValueError(f"has no {name!r}")
        said = _turns(found, name)
        system = _text(columns, "system")
        return [Turn("system", system), *said] if system.strip() and said[0].role != "system" else said

    return Layout(f"{kind} ({name}: {keys})", turns)


def _of_alpaca(columns: Mapping[str, Any]) -> list[Turn]:
    """A user's turn of instruction and input, between them an empty line, after earlier ones in `history`."""
    turns = [Turn("system", columns["system"])] if _text(columns, "system").strip() else []
    for pair in columns.get("history") or []:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise ValueError("has something else than pairs of texts in 'history'")
        said = (Turn("user", pair[0]), Turn("assistant", pair[1]))
        turns += [turn for turn in said if turn.content.strip()]
    asked = "\n\n".join(text for text in (_text(columns, "instruction"), _text(columns, "input")) if text.strip())
    if not asked:
        raise ValueError("is empty in 'instruction' and 'input'")
    turns.append(Turn("user", asked))
    return turns + _answer(columns, "output")


def _of_completion(columns: Mapping[str, Any]) -> list[Turn]:
    """A prompt and its completion, each a text or a list of messages, as TRL has them."""
    asked, answered = columns.get("prompt"), columns.get("completion")
    before = _turns(asked, "prompt") if isinstance(asked, list) else [Turn("user", _required(columns, "prompt"))]
    return before + (_turns(answered, "completion") if isinstance(answered, list) else _answer(columns, "completion"))


def _answer(columns: Mapping[str, Any], name: str) -> list[Turn]:
    """The assistant's turn, where there is one."""
    text = _text(columns, name)
    return [Turn("assistant", text)] if text.strip() else []


def _turns(messages: Any, column: str) -> list[Turn]:
    """The turns of a list of messages; a system that says nothing is left out. Raises ValueError."""
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError(f"has no list of messages in {column!r}")
    turns = [_turn(message, column) for message in messages]
    kept = [turn for turn in turns if turn.content.strip() or turn.role != "system"]
    silent = next((turn for turn in kept if not turn.content.strip()), None)
    if silent is not None:
        raise ValueError(f"has a message of the {silent.role} without text in {column!r}")
    if not kept:
        raise ValueError(f"has no message with text in {column!r}")
    return kept


def _turn(message: Any, column: str) -> Turn:
    if not isinstance(message, dict):
        raise ValueError(f"has a message in {column!r} that is no object with role and content")
    role = next((message[key] for key in _ROLE_KEYS if message.get(key) is not None), None)
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise ValueError(f"has the role {role!r} in {column!r}; roles are system, user and assistant")
    if message.get("tool_calls"):
        raise ValueError(f"has tool_calls in {column!r}, which are not read: write a call as the assistant's text")
    content = next((message[key] for key in _CONTENT_KEYS if message.get(key) is not None), "")
    if isinstance(content, list):
        content = _joined(content, column)
    if not isinstance(content, str):
        raise ValueError(f"has a message of the {role} without text in {column!r}")
    _require_unicode(content, column)
    return Turn(ROLES[role.lower()], content)  # type: ignore[arg-type]


def is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which JSON may write and no tokenizer takes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _require_unicode(text: str, column: str) -> None:
    if not is_unicode(text):
        raise ValueError(f"has a lone surrogate in {column!r}, which is no Unicode text")


def _joined(parts: Sequence[Any], column: str) -> str:
    """The text of a content that is a list of parts. Raises ValueError where a part is no text."""
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"has a part in {column!r} that is no text: images and sounds are not read")
    return "".join(str(text) for text in texts)


def _text(columns: Mapping[str, Any], name: str) -> str:
    """The text in a column that may be empty or missing. Raises ValueError where it is no text."""
    value = columns.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"has {type(value).__name__} in {name!r}, where text belongs")
    _require_unicode(value, name)
    return value


def _required(columns: Mapping[str, Any], name: str) -> str:
    text = _text(columns, name)
    if not text.strip():
        raise ValueError(f"is empty in {name!r}" if name in columns else f"has no {name!r}")
    return text
