"""The recipe's fields, their types and defaults. An unknown key is an error, except in an arm: there it is a
setting of the method, and the method's own class checks it.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tuneoff.recipe.arm import ArmSpec
from tuneoff.recipe.data import DataSpec
from tuneoff.recipe.diagnose import DiagnoseSpec
from tuneoff.recipe.evaluation import EvaluationSpec
from tuneoff.recipe.spec import Setting, Spec, Text
from tuneoff.recipe.training import TrainingSpec

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$")]


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
    config: Text | dict[str, Setting] | None = None
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
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = Field(default=[0])
    words: Words = Words()
    diagnose: DiagnoseSpec | None = DiagnoseSpec()

    @field_validator("diagnose", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        """`off` and `on`, which YAML reads as booleans: no diagnosis, or the usual one."""
        words: dict[Any, Any] = {False: None, "off": None, True: {}, "on": {}}
        return words.get(value, value) if isinstance(value, bool | str) else value

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
            has = ", ".join(f"{{{name}}}" for name in dict.fromkeys(columns)) or "no column"
            raise ValueError(f"the prompt must contain the input column {{{data.input}}}, and has {has}")
        if data.truncate is not None and data.truncate not in columns:
            raise ValueError(f"data.truncate is {data.truncate!r}, which is no column of the prompt")
        if self.evaluation.split == "validation" and self.data.splits.validation is None:
            raise ValueError("evaluation.split is 'validation', and data.splits.validation is null")
        return self

    @model_validator(mode="after")
    def _best_by_what_is_not_scored(self) -> Self:
        if self.training.keep == "best" and self.data.splits.validation is None:
            raise ValueError("training.keep: best needs a validation split, and data.splits.validation is null")
        if self.training.keep == "best" and self.evaluation.split == "validation":
            raise ValueError("training.keep: best would choose on the split that is scored: evaluation.split")
        if self.training.eval_steps is not None and self.data.splits.validation is None:
            raise ValueError("training.eval_steps needs a validation split, and data.splits.validation is null")
        return self

    @model_validator(mode="after")
    def _tune_where_it_is_not_scored(self) -> Self:
        tuned = [name for name, arm in self.arms.items() if arm.tune is not None]
        if tuned and self.data.splits.validation is None:
            raise ValueError(f"arms.{tuned[0]}.tune needs a validation split, and data.splits.validation is null")
        if tuned and self.evaluation.split == "validation":
            raise ValueError(f"arms.{tuned[0]}.tune would choose on the split that is scored: evaluation.split")
        return self

    @model_validator(mode="after")
    def _same_budget_of_halving(self) -> Self:
        """Each search takes so many steps a rate. With halving they are spent unevenly, and must be equal in all."""
        tuned = {name: arm.tune for name, arm in self.arms.items() if arm.tune is not None}
        counts = {name: len(tune.learning_rate) for name, tune in tuned.items()}
        if any(tune.halving for tune in tuned.values()) and len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(f"with `halving` all searches try equally many rates, for the same budget: {told}")
        return self


def prompt_columns(prompt: str) -> list[str]:
    """The columns that a prompt names, in order."""
    return [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]
