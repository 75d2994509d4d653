"""What the API takes and gives, as its OpenAPI schema shows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from tuneoff.errors import nearest


@dataclass(frozen=True)
class Limits:
    """What one server takes: of a request its bytes, rows, and characters in a text; the seconds in which its body must
    be there and its texts be written; texts that wait, of all requests; open connections.
    """

    body_bytes: int = 1 << 20
    rows: int = 32
    characters: int = 50_000
    body_seconds: float = 10.0
    seconds: float = 120.0
    waiting: int = 512
    connections: int = 256


class Message(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)


class Answer(Message):
    """What one arm wrote for one row."""

    text: str
    truncated: bool = Field(description="The text reached `max_new_tokens` without an end.")
    tokens: int = Field(description="Tokens written, the end included.")
    prompt_tokens: int = Field(description="Tokens of the prompt with the row in it.")
    read_tokens: int = Field(description="Those that the model was shown: at most `max_source_length`.")
    prompt_truncated: bool = Field(description="The prompt was too long and lost a part of its text, as in the trial.")
    seconds: float = Field(description="Computing time of the batch in which it was written.")
    batch: int = Field(description="Texts of that batch, those of other requests included.")
    waited_seconds: float = Field(description="Time before that batch began.")


class Answers(Message):
    """An object for each row asked for, in their order: by arm, what it wrote."""

    rows: list[dict[str, Answer]]


class ArmInfo(Message):
    """One arm that is served."""

    name: str
    method: str = Field(description="`none` (the original model), `full`, or peft's name of the method.")
    seed: int
    trainable: int | None = Field(description="Number of parameters that were trained.")


class LimitsInfo(Message):
    """What a request may have at most."""

    rows: int
    characters: int = Field(description="In each text of a row.")
    body_bytes: int
    seconds: float = Field(description="After which a request is answered with 504.")


class About(Message):
    """The run that is served."""

    run: str
    model: str
    columns: list[str] = Field(
        description="What each row has: the columns of the prompt, or `messages`: what the user says, or a "
        "conversation as JSON text of messages with role and content."
    )
    input: str = Field(description="The column of the input.")
    prompt: str | None = Field(description="Its template; null where rows are conversations.")
    max_source_length: int = Field(description="Tokens of a prompt that a model is shown.")
    max_new_tokens: int
    arms: list[ArmInfo]
    unfinished: list[str] = Field(description="Arms of the run that are not served.")
    weights_bytes: int = Field(description="Of all arms' weights in memory; what arms have in common is there once.")
    limits: LimitsInfo


class Example(Message):
    """An example of the scored split with its references."""

    id: str
    row: dict[str, str] = Field(description="The columns of the prompt.")
    references: list[str]


class Health(Message):
    """The server is there."""

    status: Literal["ok"] = "ok"
    waiting: int = Field(description="Texts that wait to be written.")


class ProblemInfo(Message):
    """One thing wrong with a request."""

    where: str = Field(description="The path into the body, such as `rows.0.dialogue`; empty for the body itself.")
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Refusal(Message):
    """Why a request was not answered."""

    error: str = Field(description="In words; of several problems all.")
    problems: list[ProblemInfo] = []


def asked_model(columns: Sequence[str], input: str, arms: Sequence[str], limits: Limits) -> type[BaseModel]:
    """The body of a request for texts: its rows have `columns`, and its arms are some of `arms`.

    Columns besides `input` may be empty or missing.
    """
    text = Annotated[str, Field(max_length=limits.characters)]
    asked = Annotated[str, Field(max_length=limits.characters), AfterValidator(_not_blank)]
    config = ConfigDict(extra="forbid")
    # A column may have a name that pydantic keeps for itself.
    fields: dict[str, Any] = {
        f"column_{n}": (asked, Field(alias=column)) if column == input else (text, Field(alias=column, default=""))
        for n, column in enumerate(columns)
    }
    row = create_model("Row", __config__=config, __doc__="The columns of the prompt.", **fields)
    rows = Annotated[list[row], Field(min_length=1, max_length=limits.rows)]
    names = Annotated[list[Literal[*arms]], Field(min_length=1, max_length=len(arms)), AfterValidator(_each_once)]  # type: ignore[valid-type]
    return create_model(
        "Asked",
        __config__=config,
        __doc__="What shall be written: for each row a text of each arm.",
        rows=(rows, ...),
        arms=(names, Field(default=list(arms), description="All where it is not given.")),
    )


def problem(error: dict[str, Any], columns: Sequence[str], arms: Sequence[str]) -> ProblemInfo:
    """One of pydantic's errors in words; `columns` and `arms` are what a request may name."""
    place = [str(part) for part in error["loc"][1:]]
    where, kind, given = ".".join(place), error["type"], error.get("input")
    message = error["msg"].removeprefix("Value error, ")
    if kind == "missing":
        message = "is missing" if where else 'the body is empty; it is an object, {"rows": […]}'
    elif kind == "extra_forbidden" and len(place) == 1 and place[0] in columns:
        message = f'it belongs into a row: {{"rows": [{{"{place[0]}": …}}]}}'
    elif kind == "extra_forbidden":
        message = f"no such key; {nearest(place[-1], columns if len(place) > 1 else ('rows', 'arms'))}"
    elif kind in ("model_type", "model_attributes_type"):
        message = f"{'' if where else 'the body '}is no object, got {_short(given)}"
    elif kind == "literal_error":
        message = f"no such arm, got {_short(given)}; {nearest(str(given), arms)}"
    elif kind == "string_too_long":
        message = f"has {len(str(given)):,} characters, and may have {error['ctx']['max_length']:,}"
    elif kind == "too_long":
        message = f"has {error['ctx']['actual_length']:,} items, and may have {error['ctx']['max_length']:,}"
    elif kind == "too_short":
        message = "is empty, and must have at least one item"
    elif kind != "value_error":
        message = f"{message[0].lower()}{message[1:]}, got {_short(given)}"
    return ProblemInfo(where=where, message=message)


def _short(given: Any) -> str:
    text = json.dumps(given)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("has no text")
    return text


def _each_once(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("has an arm twice")
    return names
