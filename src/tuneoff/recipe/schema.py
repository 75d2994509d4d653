"""The recipe's fields, their types and defaults. An unknown key is an error, except in an arm: there it is a
setting of the method, and the method's own class checks it.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, Field(min_length=1)]


class Spec(BaseModel):
    """A part of a recipe: frozen, and without room for typos."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenizerSpec(Spec):
    """A byte-level BPE tokenizer to be trained on the training split."""

    vocab_size: Annotated[int, Field(ge=300)]


class ModelSpec(Spec):
    """The original model: pretrained (`name`), or random weights of a shape (`config` with `tokenizer`).

    `gguf` is a file of the folder or hub name that `name` is. The path of a GGUF file, as `gguf` or as `name` alone, is
    the same as its folder's `name` and the file's `gguf`.
    """

    name: Text | None = None
    gguf: Text | None = None
    revision: Text | None = None
    config: Text | dict[str, Any] | None = None
    tokenizer: Text | TokenizerSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_of_a_gguf(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name, gguf = values.get("name"), values.get("gguf")
        if isinstance(name, str) and gguf is None and name.endswith(".gguf"):
            name, gguf = None, name
        if not isinstance(gguf, str) or name is not None or values.get("config") is not None:
            return values
        return {**values, "name": str(PurePath(gguf).parent), "gguf": PurePath(gguf).name}

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.gguf is not None and self.config is not None:
            raise ValueError("`gguf` is a file of weights, and `config` asks for random ones: give one of them")
        if self.gguf is not None and PurePath(self.gguf).is_absolute():
            raise ValueError("with `name`, `gguf` is a file in it; the path of a file is given as `gguf` alone")
        if (self.name is None) == (self.config is None):
            raise ValueError("give either `name` (a hub name or a folder) or `config` (random weights)")
        if isinstance(self.config, dict) and "model_type" not in self.config:
            raise ValueError("`config` needs `model_type`, e.g. {model_type: t5, d_model: 64}")
        if isinstance(self.config, dict) and self.tokenizer is None:
            raise ValueError(
                "`config` needs `tokenizer`: a folder, a hub name, or {vocab_size: 2000} to train one on the data"
            )
        if self.name is not None and isinstance(self.tokenizer, TokenizerSpec):
            raise ValueError("a pretrained model keeps its own tokenizer; `vocab_size` is for `config`")
        return self


class Splits(Spec):
    """What the data's own splits are called. `validation: null` where there is none."""

    train: Text = "train"
    validation: Text | None = "validation"
    test: Text = "test"


class Limit(Spec):
    """The first N examples (not rows) of a split; all where it is not given."""

    train: Annotated[int, Field(ge=1)] | None = None
    validation: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None


class DataSpec(Spec):
    """Where the examples come from, which columns matter, and how long they may be (in tokens).

    Rows are texts (`input` and `target`, put into the recipe's prompt), or conversations: in the column `messages`, or
    where that is not given in whatever layout the data have. Of a conversation, `train_on` says which of the
    assistant's turns are targets of training. `truncate` is the column that is cut where a prompt is too long.
    """

    source: Text | dict[Literal["train", "validation", "test"], Text]
    config: Text | None = None
    revision: Text | None = None
    input: Text | None = None
    target: Text | None = None
    messages: Text | None = None
    train_on: Literal["last", "all"] = "last"
    truncate: Text | None = None
    splits: Splits = Splits()
    limit: Limit = Limit()
    quoted_tsv: bool = False
    on_bad_row: Literal["error", "skip"] = "error"
    allow_overlap: bool = False
    max_source_length: Annotated[int, Field(ge=8)] = 512
    max_target_length: Annotated[int, Field(ge=2)] = 128

    @model_validator(mode="after")
    def _files_for_splits(self) -> Self:
        if isinstance(self.source, dict) and not {"train", "test"} <= self.source.keys():
            raise ValueError("a source given as files needs `train` and `test` (and may have `validation`)")
        return self

    @model_validator(mode="after")
    def _texts_or_conversations(self) -> Self:
        if (self.input is None) != (self.target is None):
            raise ValueError("give both `input` and `target`, or neither where the data are conversations")
        if self.input is not None and self.messages is not None:
            raise ValueError("give `input` and `target` (texts), or `messages` (conversations), not both")
        if self.input is not None and self.train_on != "last":
            raise ValueError("`train_on` is for conversations, and `input` and `target` say that these are texts")
        return self

    @property
    def has_conversations(self) -> bool:
        """Whether rows are conversations, and not texts for a prompt."""
        return self.input is None


class TuneSpec(Spec):
    """A search on the validation split before the arm's trials: each rate is tried for `training.tune_steps`."""

    learning_rate: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]


class ArmSpec(BaseModel):
    """One candidate. Every key besides these three is a setting of the method, by peft's own name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: Text
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    tune: TuneSpec | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The method's own settings."""
        return dict(self.model_extra or {})

    @property
    def trains(self) -> bool:
        return self.method != "none"

    @model_validator(mode="after")
    def _learning_rate_where_it_trains(self) -> Self:
        if self.trains and self.learning_rate is None and self.tune is None:
            raise ValueError(
                f"method {self.method!r} needs a `learning_rate` (usual: 5.0e-5 for full, 1.0e-3 for lora), "
                "or `tune: {learning_rate: [...]}` to search for one"
            )
        if self.learning_rate is not None and self.tune is not None:
            raise ValueError("give either `learning_rate` or `tune: {learning_rate: [...]}`, not both")
        if not self.trains and (self.learning_rate is not None or self.tune is not None or self.settings):
            raise ValueError("method 'none' is the original model and takes no settings")
        return self


class TrainingSpec(Spec):
    """How every arm that trains is trained: the same for all. Names and defaults follow transformers' arguments."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Annotated[int, Field(ge=1)] | None = None
    tune_steps: Annotated[int, Field(ge=1)] | None = None
    examples_per_step: Annotated[int, Field(ge=1)] = 8
    micro_batch: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    engine: Literal["auto", "fast", "plain"] = "auto"
    lr_scheduler_type: Text = "linear"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    activation_checkpointing: bool = False
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    report_to: list[Text] = []


class KeepSpec(Spec):
    """A margin of non-inferiority in points, as the judged metric is shown: `points` may be lost, whatever full has."""

    points: Annotated[float, Field(gt=0)]


class SearchSpec(Spec):
    """How texts are searched for, by transformers' names; never by sampling."""

    num_beams: Annotated[int, Field(ge=1)] = 1
    length_penalty: float = 1.0
    min_new_tokens: Annotated[int, Field(ge=0)] = 0
    no_repeat_ngram_size: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _penalty_of_beams(self) -> Self:
        if self.num_beams == 1 and self.length_penalty != 1:
            raise ValueError("`length_penalty` weighs beams against each other: give `num_beams` above 1, too")
        return self

    @property
    def changed(self) -> dict[str, float]:
        """What is not as in plain greedy search."""
        return {name: value for name, value in self if value != type(self).model_fields[name].default}


class EvaluationSpec(Spec):
    """What is generated, and how it is scored.

    The verdict is given by the first of `metrics`. `keep` is the share of full's score that is to be kept, or what may
    be lost in points.
    """

    split: Literal["validation", "test"] = "test"
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    search: SearchSpec = SearchSpec()
    batch_size: Annotated[int, Field(ge=1)] = 32
    metrics: Annotated[list[Text], Field(min_length=1)] = ["rouge1", "rouge2", "rougeL"]
    keep: Annotated[float, Field(gt=0, lt=1)] | KeepSpec = 0.97

    @model_validator(mode="before")
    @classmethod
    def _beams_of_older_runs(cls, values: Any) -> Any:
        """Runs and recipes that are older than `search` have its `num_beams` beside it."""
        if not isinstance(values, dict) or "num_beams" not in values or "search" in values:
            return values
        return {**{k: v for k, v in values.items() if k != "num_beams"}, "search": {"num_beams": values["num_beams"]}}

    @model_validator(mode="after")
    def _room_for_the_shortest(self) -> Self:
        if self.search.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"`search.min_new_tokens` is {self.search.min_new_tokens}, and `max_new_tokens` {self.max_new_tokens}: "
                "no text can have so many"
            )
        return self

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[str]) -> list[str]:
        if len(set(metrics)) != len(metrics):
            raise ValueError("every metric once")
        return metrics


class Words(Spec):
    """The nouns, in the singular, by which the report calls an example of the data and what is written for it."""

    example: Text = "example"
    output: Text = "output"

    @property
    def examples(self) -> str:
        """The plural of `example`."""
        return _plural(self.example)

    @property
    def outputs(self) -> str:
        """The plural of `output`."""
        return _plural(self.output)


def _plural(noun: str) -> str:
    """Of a regular English noun."""
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|z|ch|sh)$", noun) else f"{noun}s"


class Recipe(Spec):
    """What to compare: one model, one data set, one prompt, and the arms."""

    model: ModelSpec
    data: DataSpec
    prompt: Text | None = None
    chat: Literal["auto", "on", "off"] = "auto"
    arms: Annotated[dict[Name, ArmSpec], Field(min_length=1)]
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [0]
    words: Words = Words()

    @field_validator("model", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("chat", mode="before")
    @classmethod
    def _yaml_reads_on_and_off_as_booleans(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("every seed once")
        return seeds

    @field_validator("prompt")
    @classmethod
    def _plain_fields(cls, prompt: str | None) -> str | None:
        if prompt is None:
            return None
        try:
            fields = list(Formatter().parse(prompt))
        except ValueError as error:
            raise ValueError(f"{error}; write {{{{ and }}}} for braces that are no column") from None
        for _, name, spec, conversion in fields:
            if name == "":
                raise ValueError("a column is written {name}, got {}; write {{ and }} for plain braces")
            if spec or conversion:
                raise ValueError(
                    f"a column is written {{name}}, without ':' or '!', got {{{name}…}}; "
                    "write {{ and }} for plain braces"
                )
        return prompt

    @model_validator(mode="after")
    def _prompt_shows_input(self) -> Self:
        data = self.data
        if data.has_conversations and self.prompt is not None:
            raise ValueError(
                "conversations are asked as they are, without a `prompt`; for a prompt name data.input and data.target"
            )
        if not data.has_conversations and self.prompt is None:
            raise ValueError(f'`prompt` is missing, e.g. "{{{data.input}}}"; conversations alone have none')
        columns = prompt_columns(self.prompt) if self.prompt is not None else []
        if data.input is not None and data.input not in columns:
            raise ValueError(f"the prompt must contain the input column: {{{data.input}}}")
        if data.truncate is not None and data.truncate not in columns:
            raise ValueError(f"data.truncate is {data.truncate!r}, which is no column of the prompt")
        if self.evaluation.split == "validation" and self.data.splits.validation is None:
            raise ValueError("evaluation.split is 'validation', and data.splits.validation is null")
        return self

    @model_validator(mode="after")
    def _tune_where_it_is_not_scored(self) -> Self:
        tuned = [name for name, arm in self.arms.items() if arm.tune is not None]
        if tuned and self.data.splits.validation is None:
            raise ValueError(f"arms.{tuned[0]}.tune needs a validation split, and data.splits.validation is null")
        if tuned and self.evaluation.split == "validation":
            raise ValueError(f"arms.{tuned[0]}.tune would choose on the split that is scored: evaluation.split")
        return self


def prompt_columns(prompt: str) -> list[str]:
    """The columns that a prompt names, in order."""
    return [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
