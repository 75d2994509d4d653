"""The resolved recipe of a run, and what was read of its data."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tuneoff.errors import ForeignResultError
from tuneoff.records.base import Record
from tuneoff.records.gguf import GgufFile

FREE_OF_TRAINING = ("checkpoint_minutes", "report_to")  # settings of training that no result hangs on


class SplitStatistics(Record):
    """What was read of one split. Tokens are those that the model sees, after truncation.

    `layout` is how rows hold conversations, for people; None where they are texts. `sequences` is how many rows of
    tokens there are, fewer than examples where turns of a conversation share one; None in runs of older versions.
    `groups` is how many groups the examples come in, where the recipe has `data.group`.
    """

    rows: int
    examples: int
    references: int
    skipped_rows: int
    duplicate_rows: int
    truncated_inputs: int
    truncated_targets: int
    input_tokens: int
    target_tokens: int
    non_ascii_references: int
    content_sha256: str
    layout: str | None = None
    sequences: int | None = None
    groups: int | None = None


class Floor(Record):
    """What texts that no model wrote score on the data: first sentences of the inputs, a constant, or references.

    `scores` are the metrics' figures of `examples`, by name.
    """

    name: str
    examples: int
    scores: dict[str, float]


class ChatFrame(Record):
    """What a chat template puts around a prompt that is a user's turn.

    Attributes:
        before: The text before the prompt: special tokens, the system's turn, the head of the user's.
        after: The text after it: the end of the user's turn, the head of the assistant's.
        answer_before: What an answer begins with, where the template writes more than it asks with: a space.
        end_ids: The tokens that end the assistant's turn.
        strips: Whether spaces around a turn are taken off.
        takes_system: Whether a system may say something; otherwise its words stand in the user's first turn.
    """

    before: str
    after: str
    answer_before: str = ""
    end_ids: list[int]
    strips: bool
    takes_system: bool = True

    def around(self, prompt: str) -> str:
        """The whole text that the model is asked by."""
        return f"{self.before}{prompt.strip() if self.strips else prompt}{self.after}"


class RunMark(Record):
    """Which run a result is of: the run's own mark, and the hash of what it was resolved to (`Resolved.sha256`)."""

    run: str | None
    recipe_sha256: str

    def require_own(self, found: RunMark | None, path: Path, without: Path | None = None) -> None:
        """Raise ForeignResultError where `path`, which notes the mark `found`, is not of this run.

        `without` is what to take away, so that the run goes on; the folder of `path` where it is not given. A run of an
        older tuneoff has no mark itself, and then nothing is asked of its results.
        """
        if self.run is not None and found != self:
            raise ForeignResultError(
                f"{path} is of another run than the resolved.json of this one. "
                f"Without {without or path.parent} what it holds is made anew."
            )


class ChosenEngine(Record):
    """The engine that computes an arm's loss and text, and why that one.

    Attributes:
        name: `plain`, or the name of a faster engine of `tuneoff.model.engines`, such as `t5`.
        reason: Why it was chosen, for people.
    """

    name: str
    reason: str


class Resolved(Record):
    """The resolved recipe: all that a trial runs by, with nothing left open. Trials read `resolved.json` and no other.

    A model or tokenizer of the hub is pinned by its commit; one that lies in a folder of this machine by a hash of its
    files' names and contents (`tuneoff.data.contents`), and has no commit.

    Attributes:
        run: What this run is told from all others by, drawn at random; None in a run of an older tuneoff.
        directory: The working directory that the run began in. Relative paths in the recipe.yaml of a run of an older
            tuneoff start from it; those of newer runs are absolute.
        recipe: The recipe as JSON, local paths absolute; `tuneoff.recipe.resolved_recipe` gives it typed.
        model_path: The hub's name of the original model, or its folder.
        model_revision: Its commit on the hub.
        model_sha256: The hash of the folder's config and weights.
        model_class: Encoder-decoder or decoder-only.
        tokenizer_path: The hub's name of the tokenizer, or its folder.
        tokenizer_revision: Its commit on the hub.
        tokenizer_sha256: The hash of the folder's tokenizer files.
        data_revision: The commit of a data set of the hub.
        tokens: The folder of each split's tokens.
        data: What was read of each split.
        engines: The engine of each arm.
        precision: What training and generation compute in, bf16 or fp32.
        precision_reason: Why, where it is not what the recipe asks for.
        micro_batch: How many of the longest examples go through the model at once.
        learning_rates: Each arm's; None for an arm that trains nothing, and until the search of an arm with `tune` has
            chosen one.
        ranks: The rank of each arm whose recipe has `params` in its place; `resolved_recipe` puts them into the arms.
        groups: Where the recipe has `data.group`: the number of each example's group, of the split that is scored and
            of the validation split.
        warnings: What the user should know of the data, a sentence each.
        floors: What texts that no model wrote score on the data; empty in a run of an older tuneoff.
        chat: What the model's chat template puts around each prompt; None where prompts are plain text.
        gguf: The GGUF file that the original model was converted from, if any; `model_path` is then a folder of the
            cache, where it is made again if it is gone.
    """

    run: str | None = None
    directory: str
    recipe: dict[str, Any]
    model_path: str
    model_revision: str | None
    model_sha256: str | None
    model_class: Literal["seq2seq", "causal"]
    tokenizer_path: str
    tokenizer_revision: str | None
    tokenizer_sha256: str | None
    data_revision: str | None
    tokens: dict[str, str]
    data: dict[str, SplitStatistics]
    engines: dict[str, ChosenEngine]
    precision: Literal["bf16", "fp32"]
    precision_reason: str
    micro_batch: int
    learning_rates: dict[str, float | None]
    ranks: dict[str, int] = Field(default_factory=dict)
    groups: dict[str, list[int]] = Field(default_factory=dict)
    warnings: list[str]
    floors: list[Floor] = Field(default_factory=list)
    chat: ChatFrame | None = None
    gguf: GgufFile | None = None

    @property
    def sha256(self) -> str:
        """The hash of what its results hang on: the recipe, and model, tokenizer and data wherever they lie."""
        training = {key: self.recipe["training"][key] for key in self.recipe["training"] if key not in FREE_OF_TRAINING}
        data = {key: value for key, value in self.recipe["data"].items() if key != "allow_overlap"}
        evaluation = {
            key: value for key, value in self.recipe["evaluation"].items() if key not in ("retain", "modules")
        }
        known = {key: value for key, value in self.recipe.items() if key not in ("words", "diagnose")}
        parts: list[Any] = [
            {**known, "training": training, "data": data, "evaluation": evaluation},
            [self.model_revision, self.model_sha256, self.tokenizer_revision, self.tokenizer_sha256],
            {split: found.content_sha256 for split, found in self.data.items()},
            *([self.ranks] if self.ranks else []),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def origin(self) -> RunMark:
        """What a trial of this run notes of it."""
        return RunMark(run=self.run, recipe_sha256=self.sha256)

    def with_rate(self, arm: str, learning_rate: float) -> Resolved:
        """The same with the learning rate that a search has chosen for `arm`."""
        return self.model_copy(update={"learning_rates": {**self.learning_rates, arm: learning_rate}})
