"""What a recipe works on, read and checked: the model's config, the tokenizer, the data's tokens. No weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.builtin import located
from tuneoff.data.chat import chat_frame, check_chat
from tuneoff.data.checks import (
    Extent,
    check_architecture,
    check_lengths,
    check_room,
    check_start_token,
    check_training,
    check_vocabulary,
    length_warnings,
    measure_tokens,
)
from tuneoff.data.examples import Examples
from tuneoff.data.model_folder import check_model_folder
from tuneoff.data.positions import VirtualTokens, virtual_tokens
from tuneoff.data.pretrained import Pins, original_commit, original_place, read_config, read_tokenizer
from tuneoff.data.prompt import Prompt
from tuneoff.data.quality import check_overlap, data_warnings
from tuneoff.data.rendering import Rendering, rendering_of
from tuneoff.data.specials import check_prompt, special_token_warnings
from tuneoff.data.splits import Split, open_splits, read_splits
from tuneoff.data.tokens import Tokenization
from tuneoff.errors import DataError, ModelError, Problem, RecipeError
from tuneoff.model.base import ModelClass, fit_config, model_class
from tuneoff.model.methods import check_applies, check_method, check_params
from tuneoff.model.ranks import solve_rank
from tuneoff.progress import ProgressListener
from tuneoff.recipe.arm import RANK
from tuneoff.recipe.schema import Recipe
from tuneoff.records import ChatFrame, GgufFile, SplitStatistics
from tuneoff.score.metrics import Metric, check_metrics, find_metrics

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Inputs:
    """`tokens` are the folders of the tokenised splits (data.tokens.load_tokens reads one).

    `model_path` is the hub name or folder that weights are loaded from; None for random weights. `gguf` is what the
    file says that they were converted from, if any.
    `chat` is what the model's chat template puts around each prompt; None where prompts are plain text.
    `ranks` are those that were solved for arms with `params`, by the arm's name. `groups` has the number of each
    example's group, of the splits whose examples are resampled, where the recipe has `data.group`.
    """

    config: PretrainedConfig
    model_class: ModelClass
    model_path: str | None
    model_revision: str | None
    gguf: GgufFile | None
    tokenizer: PreTrainedTokenizerBase
    tokenizer_path: str
    tokenizer_revision: str | None
    data_revision: str | None
    chat: ChatFrame | None
    tokens: dict[str, str]
    data: dict[str, SplitStatistics]
    warnings: list[str]
    ranks: dict[str, int] = field(default_factory=dict)
    groups: dict[str, list[int]] = field(default_factory=dict)


def read_inputs(recipe: Recipe, base: Path | None, tell: ProgressListener, pins: Pins | None = None) -> Inputs:
    """Check `recipe`, then read and tokenise its data.

    What the hub has is read at `pins` where a run has pinned it before. A model of random weights and a tokenizer that
    the recipe trains on the data are those in `base` where that folder is there. Raises RecipeError, DataError or
    ModelError.
    """
    pins = pins or Pins()
    tell.phase("check")
    _refuse(_check_names(recipe, pins, tell))
    original = original_place(recipe.model, pins, tell)
    config = read_config(recipe, base, original, tell)
    kind = model_class(config)
    _refuse(_check_arms(recipe, config))
    tell.phase("read data")
    source = open_splits(recipe, pins.data)
    splits = read_splits(recipe, source)
    _refuse(check_overlap(splits, recipe.evaluation.split, recipe.data.allow_overlap))
    tell.phase("tokenise")
    texts = (text for e in splits["train"].examples for text in (e.prompt, *e.references)) if "train" in splits else ()
    tokenizer, tokenizer_path, tokenizer_revision = read_tokenizer(recipe, base, original, config, texts, pins, tell)
    if recipe.model.config is not None:
        given = isinstance(recipe.model.config, str) or "vocab_size" in recipe.model.config
        fit_config(config, tokenizer, vocab_given=given)
    ranks = _solve_ranks(recipe, config, tell)
    _refuse(check_start_token(config))
    _refuse(check_chat(tokenizer, kind, recipe.chat))
    chat = chat_frame(tokenizer, kind, recipe.chat)
    _refuse(check_prompt(tokenizer, recipe.prompt, chat))
    splits = {split: askable(recipe, found, rendering_of(recipe, tokenizer, chat)) for split, found in splits.items()}
    tokens, statistics = _tokenise(recipe, kind, tokenizer, chat, splits, tell)
    extent = _extent(recipe, tokens)
    if not all(metric.by_text for metric in find_metrics(recipe.evaluation.metrics, recipe.evaluation.modules)):
        longest = Tokenization.of(recipe, tokenizer, kind, chat).longest_target(splits[recipe.evaluation.split])
        extent = extent.with_references(longest, kind)
    _refuse([*check_vocabulary(config, tokenizer, extent.highest_id), *_check_lengths(recipe, config, extent)])
    warnings = source.notices + _warnings(
        splits, statistics, recipe.evaluation.split, find_metrics(recipe.evaluation.metrics, recipe.evaluation.modules)
    )
    plain = Prompt(recipe.prompt) if chat is None and recipe.prompt is not None else None
    warnings += original.gguf.warnings if original is not None and original.gguf is not None else []
    warnings += special_token_warnings(tokenizer, plain, splits)
    warnings += length_warnings(config, kind, extent, recipe.evaluation.max_new_tokens)
    return Inputs(
        config=config,
        model_class=kind,
        model_path=original.path if original is not None else None,
        model_revision=original_commit(recipe.model, original, config, pins),
        gguf=original.gguf if original is not None else None,
        tokenizer=tokenizer,
        tokenizer_path=tokenizer_path,
        tokenizer_revision=tokenizer_revision,
        data_revision=source.revision,
        chat=chat,
        tokens=tokens,
        data=statistics,
        warnings=warnings,
        ranks=ranks,
        groups=_groups(splits, statistics, recipe.evaluation.split),
    )


def _groups(
    splits: Mapping[Split, Examples], statistics: Mapping[str, SplitStatistics], scored: Split
) -> dict[str, list[int]]:
    """The number of each example's group, for the splits that intervals are over: that which is scored, and validation.

    A split in which turns of a conversation share a row of tokens has none: its losses are not of single examples.
    """
    found = {}
    for split, read in splits.items():
        labels = [example.group for example in read.examples]
        rows = statistics[split].sequences or len(labels)
        if split not in (scored, "validation") or None in labels or rows != len(labels):
            continue
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        found[str(split)] = [numbers[label] for label in labels]
    return found


def askable(recipe: Recipe, examples: Examples, rendering: Rendering) -> Examples:
    """`examples` without conversations that the model cannot be asked, such as turns that its chat template refuses.

    They are bad rows: raises DataError with the place, unless `data.on_bad_row` says to leave them out.
    """
    if not recipe.data.has_conversations:
        return examples
    kept, refused = [], []
    for example in examples.examples:
        try:
            rendering.text(example.columns)
            kept.append(example)
        except (DataError, ModelError) as error:
            if recipe.data.on_bad_row == "error":
                raise DataError(
                    f"{example.where}: {error}. Fix the row, or set data.on_bad_row: skip to leave such rows out and "
                    "count them"
                ) from None
            refused.append(f"{example.where}: {error}")
    if not kept:
        raise DataError(f"none of the conversations can be put to the model ({refused[0]})")
    return replace(
        examples,
        examples=kept,
        skipped_rows=examples.skipped_rows + len(refused),
        skipped_places=[*examples.skipped_places, *refused],
    )


def _refuse(problems: Iterable[Problem]) -> None:
    """Raise RecipeError with every problem, where there is one."""
    found = list(problems)
    if found:
        raise RecipeError(found)


def _check_names(recipe: Recipe, pins: Pins, tell: ProgressListener) -> list[Problem]:
    """What is wrong before anything is loaded: with methods, scheduler, trackers, metrics, and the model's folder."""
    problems = [p for name, arm in recipe.arms.items() for p in check_method(name, arm.method, arm.settings)]
    for name, arm in recipe.arms.items():
        problems += check_params(name, arm.method) if arm.params is not None else []
    problems += [*check_training(recipe.training), *check_metrics(recipe.evaluation.metrics, recipe.evaluation.modules)]
    if recipe.model.name is not None and recipe.model.gguf is None:
        problems += check_model_folder(located(recipe.model.name, tell), pins.model or recipe.model.revision)
    return problems


def _check_arms(recipe: Recipe, config: PretrainedConfig) -> list[Problem]:
    """What keeps an arm from being trained, as far as the model's config says it."""
    problems = check_architecture(config) if any(arm.trains for arm in recipe.arms.values()) else []
    for name, arm in recipe.arms.items():
        problems += check_applies(name, arm.method, arm.settings, config)
    return problems


def _solve_ranks(recipe: Recipe, config: PretrainedConfig, tell: ProgressListener) -> dict[str, int]:
    """The rank of each arm with `params` that has none yet. Raises RecipeError where there is no such rank."""
    ranks, problems = {}, []
    for name, arm in recipe.arms.items():
        if arm.params is None or RANK in arm.settings:
            continue
        tell.phase(f"solve the rank of {name}")
        try:
            ranks[name] = solve_rank(config, arm.method, arm.settings, arm.params)
        except ModelError as error:
            problems.append(Problem(("arms", name, "params"), str(error)))
    _refuse(problems)
    return ranks


def _extent(recipe: Recipe, tokens: Mapping[str, str]) -> Extent:
    scored = recipe.evaluation.split
    return measure_tokens([path for split, path in tokens.items() if split != scored], [tokens[scored]])


def _check_lengths(recipe: Recipe, config: PretrainedConfig, extent: Extent) -> list[Problem]:
    """Lengths against positions, with the most virtual tokens that an arm's method adds on each side."""
    kind = model_class(config)
    added = [virtual_tokens(arm.method, arm.settings, kind) for arm in recipe.arms.values()]
    most = VirtualTokens(max(v.input for v in added), max(v.target for v in added))
    return check_lengths(config, kind, extent, recipe.evaluation.max_new_tokens, most)


def _tokenise(
    recipe: Recipe,
    kind: ModelClass,
    tokenizer: PreTrainedTokenizerBase,
    chat: ChatFrame | None,
    splits: Mapping[Split, Examples],
    tell: ProgressListener,
) -> tuple[dict[str, str], dict[str, SplitStatistics]]:
    """The folder of each split's tokens, and what was read of it."""
    tokenization = Tokenization.of(recipe, tokenizer, kind, chat)
    _refuse(check_room(tokenization))
    tokens: dict[str, str] = {}
    statistics: dict[str, SplitStatistics] = {}
    for split, examples in splits.items():
        work = tokenization.for_generation if split == recipe.evaluation.split else tokenization.for_training
        path, statistics[split] = work(examples, tell.progress)
        tokens[split] = str(path)
    return tokens, statistics


def _warnings(
    splits: dict[Split, Examples], statistics: dict[str, SplitStatistics], scored: Split, metrics: Sequence[Metric]
) -> list[str]:
    warnings = []
    for split, examples in splits.items():
        warnings += [f"{split}: {warning}" for warning in examples.warnings]
        if statistics[split].truncated_inputs:
            count, total = statistics[split].truncated_inputs, statistics[split].examples
            warnings.append(f"{split}: {count} of {total} inputs were longer than data.max_source_length and were cut")
    warnings += data_warnings(splits, scored)
    references = [example.references for example in splits[scored].examples]
    found = [text for metric in metrics for text in metric.prepare(references).warnings]
    return [*warnings, *(f"{scored}: {text}" for text in dict.fromkeys(found))]
