"""What all trials share, made and checked before the first: model pinned, methods checked, data read and tokenised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tuneoff.builtin import located
from tuneoff.data.examples import Examples, read_examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.sources import Source, open_source
from tuneoff.data.tokens import Tokeniser
from tuneoff.errors import DataError, RecipeChangedError, RecipeError
from tuneoff.folder import RunFolder
from tuneoff.model.base import ModelClass, build_model, fit_config, load_config, make_config, model_class
from tuneoff.model.methods import check_applies, check_method
from tuneoff.model.saved import save_whole
from tuneoff.model.tokenizer import load_tokenizer, train_tokenizer
from tuneoff.recipe.schema import Recipe, TokenizerSpec
from tuneoff.records import Prepared, SplitStatistics
from tuneoff.run.events import Reporter

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

Split = Literal["train", "validation", "test"]


def prepare(recipe: Recipe, folder: RunFolder, report: Reporter) -> Prepared:
    """Make what every trial of `recipe` shares, and write `prepared.json`.

    Raises RecipeError, DataError or ModelError before anything is trained, and RecipeChangedError
    where finished trials were made of other data.
    """
    report.phase("check")
    problems = [p for name, arm in recipe.arms.items() for p in check_method(name, arm.method, arm.settings)]
    if problems:
        raise RecipeError(problems)
    config = _config(recipe)
    kind = model_class(config)
    problems = [p for name, arm in recipe.arms.items() for p in check_applies(name, arm.method, arm.settings, config)]
    if problems:
        raise RecipeError(problems)
    report.phase("read data")
    source = open_source(recipe.data)
    splits = _splits(recipe, source)
    report.phase("tokenise")
    tokenizer, tokenizer_path, tokenizer_revision = _tokenizer(recipe, folder, config, kind, splits)
    model_path, revision = _model(recipe, folder, config, tokenizer)
    tokeniser = Tokeniser(
        tokenizer, kind, Prompt(recipe.prompt).tail, recipe.data.max_source_length, recipe.data.max_target_length
    )
    tokens: dict[str, str] = {}
    statistics: dict[str, SplitStatistics] = {}
    for split, examples in splits.items():
        work = tokeniser.for_generation if split == recipe.evaluation.split else tokeniser.for_training
        path, statistics[split] = work(examples, report.progress)
        tokens[split] = str(path)
    prepared = Prepared(
        model_path=model_path,
        model_revision=revision,
        model_class=kind,
        tokenizer_path=tokenizer_path,
        tokenizer_revision=tokenizer_revision,
        data_revision=source.revision,
        tokens=tokens,
        data=statistics,
        warnings=_warnings(splits, statistics, recipe.evaluation.split),
    )
    _refuse_other_data(folder, prepared)
    prepared.write(folder.prepared)
    return prepared


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
    return {split: _read(recipe, source, split, name) for split, name in names.items() if name is not None}


def _read(recipe: Recipe, source: Source, split: Split, name: str) -> Examples:
    data = recipe.data
    try:
        return read_examples(
            source.rows(name),
            input=data.input,
            target=data.target,
            prompt=Prompt(recipe.prompt),
            group_references=split == recipe.evaluation.split,
            limit=getattr(data.limit, split),
            skip_bad_rows=data.on_bad_row == "skip",
        )
    except DataError as error:
        raise DataError(f"data, split {name!r}: {error}") from None


def _tokenizer(
    recipe: Recipe, folder: RunFolder, config: PretrainedConfig, kind: ModelClass, splits: dict[Split, Examples]
) -> tuple[PreTrainedTokenizerBase, str, str | None]:
    """The tokenizer, and the path and revision that trials load it from.

    One that is trained on the data lies with the model of random weights, and is trained once.
    """
    model = recipe.model
    if isinstance(model.tokenizer, TokenizerSpec):
        path = str(folder.base.resolve())
        if folder.base.is_dir():
            return load_tokenizer(path, None), path, None
        texts = [text for e in splits["train"].examples for text in (e.prompt, *e.references)]
        return train_tokenizer(texts, model.tokenizer.vocab_size, kind), path, None
    own = model.tokenizer is None
    name = model.tokenizer or model.name or model.config
    assert isinstance(name, str)
    path = located(name)
    revision = (getattr(config, "_commit_hash", None) or model.revision) if own else None
    return load_tokenizer(path, revision), path, revision


def _model(
    recipe: Recipe, folder: RunFolder, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str | None]:
    """Where trials load the model from: its name and pinned commit, or the folder where it was built, once."""
    model = recipe.model
    if model.name is not None:
        return located(model.name), getattr(config, "_commit_hash", None) or model.revision
    if not folder.base.is_dir():
        given = isinstance(model.config, str) or "vocab_size" in (model.config or {})
        fit_config(config, tokenizer, vocab_given=given)
        save_whole(build_model(config), tokenizer, folder.base)
    return str(folder.base.resolve()), None


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


def _refuse_other_data(folder: RunFolder, prepared: Prepared) -> None:
    """Raise RecipeChangedError where trials already finished on other data than today's."""
    if not folder.prepared.is_file() or not any(folder.path.glob("trials/*/*/result.json")):
        return
    before = Prepared.read(folder.prepared)
    for split, statistics in prepared.data.items():
        old = before.data.get(split)
        if old is not None and old.content_sha256 != statistics.content_sha256:
            raise RecipeChangedError(
                f"{folder.path}: the {split} data are not those that its finished trials saw "
                f"({old.examples} examples then, {statistics.examples} now). Choose another folder with --out."
            )
