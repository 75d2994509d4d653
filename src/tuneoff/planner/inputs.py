"""What a recipe works on, read and checked: the model's config, the tokenizer, the data's tokens. No weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuneoff.builtin import located
from tuneoff.data.examples import Examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.sources import Source, open_source
from tuneoff.data.splits import Split, read_split
from tuneoff.data.tokens import Tokeniser
from tuneoff.errors import RecipeError
from tuneoff.model.base import ModelClass, fit_config, load_config, make_config, model_class
from tuneoff.model.methods import check_applies, check_method
from tuneoff.model.tokenizer import load_tokenizer, train_tokenizer
from tuneoff.recipe.schema import Recipe, TokenizerSpec
from tuneoff.records import SplitStatistics

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


class Telling(Protocol):
    """Who is told how the reading goes."""

    def phase(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Inputs:
    """`tokens` are the folders of the tokenised splits (data.tokens.load_tokens reads one)."""

    config: PretrainedConfig
    model_class: ModelClass
    tokenizer: PreTrainedTokenizerBase
    tokenizer_path: str
    tokenizer_revision: str | None
    data_revision: str | None
    tokens: dict[str, str]
    data: dict[str, SplitStatistics]
    warnings: list[str]


def read_inputs(recipe: Recipe, base: Path | None, tell: Telling) -> Inputs:
    """Check `recipe`, then read and tokenise its data.

    A tokenizer that the recipe trains on the data is loaded from `base` where that folder is there, else trained.
    Raises RecipeError, DataError or ModelError.
    """
    tell.phase("check")
    problems = [p for name, arm in recipe.arms.items() for p in check_method(name, arm.method, arm.settings)]
    if problems:
        raise RecipeError(problems)
    config = _config(recipe)
    kind = model_class(config)
    problems = [p for name, arm in recipe.arms.items() for p in check_applies(name, arm.method, arm.settings, config)]
    if problems:
        raise RecipeError(problems)
    tell.phase("read data")
    source = open_source(recipe.data)
    splits = _splits(recipe, source)
    tell.phase("tokenise")
    tokenizer, tokenizer_path, tokenizer_revision = _tokenizer(recipe, base, config, kind, splits)
    if recipe.model.config is not None:
        given = isinstance(recipe.model.config, str) or "vocab_size" in recipe.model.config
        fit_config(config, tokenizer, vocab_given=given)
    tokeniser = Tokeniser(
        tokenizer, kind, Prompt(recipe.prompt).tail, recipe.data.max_source_length, recipe.data.max_target_length
    )
    tokens: dict[str, str] = {}
    statistics: dict[str, SplitStatistics] = {}
    for split, examples in splits.items():
        work = tokeniser.for_generation if split == recipe.evaluation.split else tokeniser.for_training
        path, statistics[split] = work(examples, tell.progress)
        tokens[split] = str(path)
    return Inputs(
        config=config,
        model_class=kind,
        tokenizer=tokenizer,
        tokenizer_path=tokenizer_path,
        tokenizer_revision=tokenizer_revision,
        data_revision=source.revision,
        tokens=tokens,
        data=statistics,
        warnings=_warnings(splits, statistics, recipe.evaluation.split),
    )


def _config(recipe: Recipe) -> PretrainedConfig:
    model = recipe.model
    if isinstance(model.config, dict):
        return make_config(model.config)
    name = model.name or model.config
    assert name is not None
    return load_config(located(name), model.revision)


def _splits(recipe: Recipe, source: Source) -> dict[Split, Examples]:
    names: dict[Split, str | None] = {
        "train": recipe.data.splits.train,
        "validation": recipe.data.splits.validation,
        "test": recipe.data.splits.test,
    }
    if not any(arm.trains for arm in recipe.arms.values()) and not isinstance(recipe.model.tokenizer, TokenizerSpec):
        del names["train"]
    if recipe.evaluation.split != "test":
        del names["test"]
    asked_for = "validation" in recipe.data.splits.model_fields_set or recipe.evaluation.split == "validation"
    if not asked_for and source.files is not None and "validation" not in source.files:
        del names["validation"]  # no validation loss, and nothing else changes
    return {split: read_split(recipe, source, split, name) for split, name in names.items() if name is not None}


def _tokenizer(
    recipe: Recipe, base: Path | None, config: PretrainedConfig, kind: ModelClass, splits: dict[Split, Examples]
) -> tuple[PreTrainedTokenizerBase, str, str | None]:
    """The tokenizer, and the path and revision that trials load it from.

    One that is trained on the data lies with the model of random weights, and is trained once.
    """
    model = recipe.model
    if isinstance(model.tokenizer, TokenizerSpec):
        path = str(base.resolve()) if base is not None else ""
        if base is not None and base.is_dir():
            return load_tokenizer(path, None), path, None
        texts = [text for e in splits["train"].examples for text in (e.prompt, *e.references)]
        return train_tokenizer(texts, model.tokenizer.vocab_size, kind), path, None
    own = model.tokenizer is None
    name = model.tokenizer or model.name or model.config
    assert isinstance(name, str)
    path = located(name)
    revision = (getattr(config, "_commit_hash", None) or model.revision) if own else None
    return load_tokenizer(path, revision), path, revision


def _warnings(splits: dict[Split, Examples], statistics: dict[str, SplitStatistics], scored: Split) -> list[str]:
    warnings = []
    for split, examples in splits.items():
        if examples.skipped_rows:
            more = "; …" if examples.skipped_rows > 3 else ""
            places = "; ".join(examples.skipped_places[:3]) + more
            warnings.append(f"{split}: {examples.skipped_rows} bad rows left out ({places})")
        if statistics[split].truncated_inputs:
            count, total = statistics[split].truncated_inputs, statistics[split].examples
            warnings.append(
                f"{split}: {count} of {total} inputs were longer than data.max_source_length and lost their end"
            )
    if statistics[scored].non_ascii_references:
        count = statistics[scored].non_ascii_references
        warnings.append(f"{scored}: references with letters beyond ASCII, which ROUGE does not see: {count}")
    return warnings
