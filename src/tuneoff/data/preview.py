"""Examples as the model sees them: their tokens, which of them the loss sees, and what was cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

from tuneoff.data.inputs import Inputs, askable
from tuneoff.data.splits import Split, open_splits, read_split
from tuneoff.data.tokens import IGNORED, Tokenization, count_targets, load_tokens
from tuneoff.errors import DataError, nearest
from tuneoff.recipe.schema import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BINS = 8  # of a histogram, at most


@dataclass(frozen=True)
class Segment:
    """Tokens in a row, as texts, that the loss sees or does not see. Together they are the model's input and target."""

    tokens: list[str]
    in_loss: bool


@dataclass(frozen=True)
class Preview:
    """One example, or several turns of a conversation that share a row of tokens.

    Attributes:
        id: Its `id` in the data, or else its number; the first and the last of several.
        references: What should be written.
        segments: What the model sees of it: the prompt, and in training the target, by turns where there are several.
        cut_tokens: How many of the last prompt's tokens were cut.
    """

    id: str
    references: tuple[str, ...]
    segments: list[Segment]
    cut_tokens: int


@dataclass(frozen=True)
class Bin:
    """How many lengths lie from `low` to `high`, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True)
class SplitPreview:
    """Some examples of a split, spread evenly, and the lengths of all rows of tokens.

    `target_lengths` is empty for the split that is scored, whose references no model sees.
    """

    split: Split
    trained_on: bool
    examples: list[Preview]
    input_lengths: list[int]
    target_lengths: list[int]


def preview(recipe: Recipe, inputs: Inputs, split: Split, count: int) -> SplitPreview:
    """`count` examples of `split` from what `read_inputs` made of the recipe; turns that share a row are shown as one.

    Raises DataError.
    """
    if split not in inputs.tokens:
        raise DataError(f"the recipe uses no split {split!r}; {nearest(split, inputs.tokens)}")
    name = getattr(recipe.data.splits, split)
    rows = load_tokens(inputs.tokens[split])
    tokenization = Tokenization.of(recipe, inputs.tokenizer, inputs.model_class, inputs.chat)
    found = askable(recipe, read_split(recipe, open_splits(recipe), split, name), tokenization.rendering).examples
    trained = "labels" in rows.column_names
    counts = [count_targets(labels) for labels in rows["labels"]] if len(rows) < len(found) else [1] * len(rows)
    ends = list(accumulate(counts))
    count = min(count, len(rows))
    places = [(2 * n + 1) * len(rows) // (2 * count) for n in range(count)]
    shown = []
    for place in places:
        turns = found[ends[place] - counts[place] : ends[place]]
        [(kept, whole)] = tokenization.prompts([turns[-1].columns])
        segments = _segments(inputs.tokenizer, rows[place], causal=inputs.model_class == "causal")
        name = " to ".join(dict.fromkeys((turns[0].id, turns[-1].id)))
        references = tuple(reference for turn in turns for reference in turn.references)
        shown.append(Preview(name, references, segments, whole - len(kept)))
    targets = [sum(label != IGNORED for label in labels) for labels in rows["labels"]] if trained else []
    lengths = [len(ids) for ids in rows["input_ids"]]
    if trained and inputs.model_class == "causal":
        lengths = [whole - target for whole, target in zip(lengths, targets, strict=True)]
    return SplitPreview(split, trained, shown, lengths, targets)


def histogram(lengths: Sequence[int]) -> list[Bin]:
    """The lengths in bins of equal and round width, from the first that has one to the last: up to 9."""
    low, top = min(lengths), max(lengths)
    step = max(1, -(-(top + 1 - low) // BINS))
    round_step = next(
        unit * factor for unit in (1, 10, 100, 1000, 10_000) for factor in (1, 2, 5) if unit * factor >= step
    )
    bins = range(low // round_step * round_step, top + 1, round_step)
    return [Bin(low, low + round_step - 1, sum(low <= n < low + round_step for n in lengths)) for low in bins]


def _segments(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], *, causal: bool) -> list[Segment]:
    ids, labels = row["input_ids"], row.get("labels")
    if labels is None:
        return [Segment(token_texts(tokenizer, ids), False)]
    if not causal:
        return [Segment(token_texts(tokenizer, ids), False), Segment(token_texts(tokenizer, labels), True)]
    texts = token_texts(tokenizer, ids)
    runs = groupby(range(len(ids)), key=lambda n: labels[n] != IGNORED)
    return [Segment([texts[n] for n in run], in_loss) for in_loss, run in runs]


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """The text that each token adds to those before it; its name in the vocabulary where it ends no character."""
    texts: list[str] = []
    before = ""
    for n in range(len(ids)):
        whole = tokenizer.decode(ids[: n + 1], clean_up_tokenization_spaces=False)
        added = whole[len(before) :] if whole.startswith(before) else ""
        texts.append(added if added and "\ufffd" not in added else str(tokenizer.convert_ids_to_tokens(ids[n])))
        before = whole
    return texts
