"""Examples → token ids, once: kept in a cache under the hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.cache import cache_folder, file_sha256
from tuneoff.data.cutting import cut
from tuneoff.data.examples import Example, Examples
from tuneoff.data.rendering import Rendering, rendering_of
from tuneoff.errors import DataError, ModelError
from tuneoff.recipe.schema import Recipe
from tuneoff.records import ChatFrame, Record, SplitStatistics
from tuneoff.room import room_for

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

FORMAT = 7  # raise it when the tokens of the same text change
IGNORED = -100  # the label that no loss sees
CHUNK = 256  # examples tokenised between two reports of progress
KEPT = "tokens.json"
PROBE = "a"  # a text that shows which special tokens a tokenizer adds around every text


@dataclass(frozen=True)
class Tokenization:
    """How examples become token ids for one class of model.

    `seq2seq`: the prompt is the encoder's input, the target the decoder's labels. `causal`: prompt
    and target are one sequence that ends in EOS, and the prompt's labels are ignored.
    Where a row takes more than `max_source_length` tokens, those of its texts are left out that are too many, so that
    the words of the recipe's prompt, a chat template's and the special tokens around them stay; `rendering` says where
    its texts stand. A target that is cut keeps the special tokens that end it. With `chat`, the target ends as the
    assistant's turn does. In training, the turns of one conversation share a row where they can (`_joined`).
    """

    tokenizer: PreTrainedTokenizerBase
    model_class: Literal["seq2seq", "causal"]
    rendering: Rendering
    max_source_length: int
    max_target_length: int
    chat: ChatFrame | None = None

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        tokenizer: PreTrainedTokenizerBase,
        model_class: Literal["seq2seq", "causal"],
        chat: ChatFrame | None,
    ) -> Tokenization:
        """That of a recipe's examples."""
        data, rendering = recipe.data, rendering_of(recipe, tokenizer, chat)
        return cls(tokenizer, model_class, rendering, data.max_source_length, data.max_target_length, chat)

    def for_training(self, examples: Examples, progress: Callable[[int, int], None]) -> tuple[Path, SplitStatistics]:
        """Columns `input_ids` and `labels`, in the cache; each example's first reference is its target.

        A row has several targets where it is that of several turns of a conversation.
        """
        return self._cached(examples, "training", progress)

    def for_generation(self, examples: Examples, progress: Callable[[int, int], None]) -> tuple[Path, SplitStatistics]:
        """Columns `id`, `input`, `columns`, `references` and `input_ids` (the prompt alone), in the cache."""
        return self._cached(examples, "generation", progress)

    def prompts(self, rows: Sequence[Mapping[str, str | None]]) -> list[tuple[list[int], int]]:
        """The token ids that a model is asked by for each row, and how many they were before it was cut.

        Raises DataError where a row cannot be cut to the length.
        """
        encoded = self._encode([self.rendering.text(row) for row in rows])
        return [(self._fitted(row, ids), len(ids)) for row, ids in zip(rows, encoded, strict=True)]

    def with_targets(self, prompt: list[int], references: Sequence[str]) -> list[dict[str, list[int]]]:
        """Rows with `input_ids` and `labels` as in `for_training`: a prompt's token ids with each of its references."""
        closing = self._closing_tokens()
        targets = self._encode_targets(list(references))
        return [self._training_row(prompt, keep_tail(ids, self.max_target_length, closing)[0]) for ids in targets]

    def longest_target(self, examples: Examples) -> int:
        """The most tokens that a reference has, cut as in training."""
        references = [reference for example in examples.examples for reference in example.references]
        return min(self.max_target_length, max(map(len, self._encode_targets(references))))

    def _closing_tokens(self) -> int:
        """How many tokens at a target's end a cut keeps: those that the tokenizer adds, and EOS in any case."""
        return max(self._added(self._encode_targets)[1], 1)

    def length(self, text: str) -> int:
        """How many tokens a model is asked by with this text."""
        return len(self._encode([text])[0])

    def _fitted(self, row: Mapping[str, str | None], ids: list[int]) -> list[int]:
        """`ids`, or where they are more than `max_source_length`, so many of them or those of a shorter row."""
        if len(ids) <= self.max_source_length:
            return ids
        shorter = self.rendering.shorter(row)
        place = bisect_left(shorter, -self.max_source_length, key=lambda one: -self.length(self.rendering.text(one)))
        if place < len(shorter):
            return self._encode([self.rendering.text(shorter[place])])[0]
        kept = self._cut(shorter[-1] if shorter else row)
        if len(kept) > self.max_source_length:
            raise DataError(
                f"{self.max_source_length} tokens (data.max_source_length) leave no room for the texts: the prompt "
                f"and the chat template take {len(kept)} without them"
            )
        return kept

    def _cut(self, row: Mapping[str, str | None]) -> list[int]:
        """`max_source_length` tokens of a row that is too long, or more where its texts leave no room.

        A slow tokenizer does not say where its tokens stand: the text loses as few characters as will do.
        """
        text, places, limit = self.rendering.text(row), self.rendering.places(row), self.max_source_length
        if self.tokenizer.is_fast:
            made = self.tokenizer(
                text, add_special_tokens=self.chat is None, return_offsets_mapping=True, verbose=False
            )
            end = len(made["input_ids"]) - self.added_end
            return cut(made["input_ids"][:end], made["offset_mapping"][:end], places, limit)
        characters = [(n, n + 1) for n in range(len(text))]

        def encoded(most: int) -> list[int]:
            return self._encode(["".join(cut(text, characters, places, most))])[0]

        least = len(text) - sum(place.end - place.start for place in places)
        more = bisect_right(range(least + 1, len(text)), limit, key=lambda most: len(encoded(most)))
        return encoded(least + more)

    def _added(self, encode: Callable[[list[str]], list[list[int]]]) -> tuple[int, int]:
        """How many special tokens `encode` puts before and after a text."""
        whole, bare = encode([PROBE])[0], self._bare(PROBE)
        last = len(whole) - len(bare)
        before = next((n for n in range(last + 1) if whole[n : n + len(bare)] == bare), None)
        return (0, 0) if before is None else (before, last - before)

    def _cached(
        self, examples: Examples, use: Literal["training", "generation"], progress: Callable[[int, int], None]
    ) -> tuple[Path, SplitStatistics]:
        folder = cache_folder("tokens") / self._key(examples, use)
        kept = _kept(folder)
        if kept is None:
            from datasets import Dataset

            counts = dict.fromkeys(("truncated_inputs", "truncated_targets", "target_tokens"), 0)
            rows = list(self._rows(examples, use, counts, progress))
            targets = counts["target_tokens"] if use == "training" and self.model_class == "causal" else 0
            counts["input_tokens"] = sum(len(row["input_ids"]) for row in rows) - targets
            counts["sequences"] = len(rows)
            kept = self._keep(Dataset.from_list(rows), counts, folder)
        references = [reference for example in examples.examples for reference in example.references]
        return folder, SplitStatistics(
            rows=examples.rows,
            examples=len(examples.examples),
            references=len(references),
            skipped_rows=examples.skipped_rows,
            duplicate_rows=examples.duplicate_rows,
            non_ascii_references=sum(not reference.isascii() for reference in references),
            content_sha256=examples.content_sha256,
            layout=examples.layout,
            groups=examples.groups,
            **kept.counts,
        )

    def _key(self, examples: Examples, use: str) -> str:
        digest = hashlib.sha256()
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else json.dumps(sorted(self.tokenizer.get_vocab().items()))
        specials = json.dumps(self.tokenizer.special_tokens_map, default=str, sort_keys=True)
        lengths = self.max_source_length, self.max_target_length
        settings = (FORMAT, use, self.model_class, self.rendering.key, *lengths, self.chat)
        added = self._encode([PROBE]) + self._encode_targets([PROBE])  # language codes among them
        for part in (repr(settings), vocabulary, specials, repr(added), examples.content_sha256):
            digest.update(part.encode())
        digest.update(json.dumps([example.id for example in examples.examples]).encode())
        digest.update(json.dumps(_go_on(examples.examples)).encode())
        return digest.hexdigest()[:32]

    def _rows(
        self, examples: Examples, use: str, counts: dict[str, int], progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        """A row for each example; in training a decoder-only model, for as many turns as can share one."""
        rows = self._single_rows(examples, use, counts, progress)
        if use == "training" and self.model_class == "causal":
            return _joined(zip(rows, _go_on(examples.examples), strict=True))
        return rows

    def _single_rows(
        self, examples: Examples, use: str, counts: dict[str, int], progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        closing = self._closing_tokens()
        total = len(examples.examples)
        for start in range(0, total, CHUNK):
            chunk = examples.examples[start : start + CHUNK]
            prompts = self._prompts_of(chunk)
            targets = self._encode_targets([example.references[0] for example in chunk])
            for example, (kept, whole), target in zip(chunk, prompts, targets, strict=True):
                counts["truncated_inputs"] += whole > self.max_source_length
                if use == "generation":
                    counts["target_tokens"] += sum(map(len, self._encode_targets(example.references)))
                    yield _generation_row(example, kept)
                    continue
                labels, shortened = keep_tail(target, self.max_target_length, closing)
                counts["truncated_targets"] += shortened
                counts["target_tokens"] += len(labels)
                yield self._training_row(kept, labels)
            progress(min(start + CHUNK, total), total)

    def _prompts_of(self, examples: Sequence[Example]) -> list[tuple[list[int], int]]:
        """`prompts` of examples. Raises DataError, which names the first that the model cannot be asked."""
        try:
            return self.prompts([example.columns for example in examples])
        except (DataError, ModelError):
            for example in examples:
                try:
                    self.prompts([example.columns])
                except (DataError, ModelError) as error:
                    raise DataError(f"example {example.id}: {error}") from error
            raise

    @property
    def added_end(self) -> int:
        """How many special tokens that the tokenizer adds are taken off a prompt's end, where its target goes on.

        None of an encoder-decoder's. An end that the prompt itself writes stays.
        """
        return self._added(self._encode_whole)[1] if self.model_class == "causal" and self.chat is None else 0

    def _encode(self, texts: list[str]) -> list[list[int]]:
        """Prompts with the tokenizer's own special tokens; for a decoder-only model without those that end a text."""
        added = self.added_end
        return [ids[: len(ids) - added] for ids in self._encode_whole(texts)]

    def _encode_whole(self, texts: list[str]) -> list[list[int]]:
        """Texts with the tokenizer's special tokens; a chat template has written them."""
        encoded = self.tokenizer(texts, add_special_tokens=self.chat is None, verbose=False)
        return list(encoded["input_ids"])

    def _bare(self, text: str) -> list[int]:
        """The tokens of a text by itself."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _encode_targets(self, texts: list[str] | tuple[str, ...]) -> list[list[int]]:
        if self.model_class == "seq2seq":
            encoded: list[list[int]] = self.tokenizer(text_target=list(texts), verbose=False)["input_ids"]
            return encoded
        # The target goes on where the prompt ends.
        begin = self.rendering.gap if self.chat is None else self.chat.answer_before
        end = [self.tokenizer.eos_token_id] if self.chat is None else self.chat.end_ids
        begun = [begin + text.strip() for text in texts]
        bare: list[list[int]] = self.tokenizer(begun, add_special_tokens=False, verbose=False)["input_ids"]
        return [[*ids, *end] for ids in bare]

    def _training_row(self, prompt: list[int], target: list[int]) -> dict[str, Any]:
        if self.model_class == "seq2seq":
            return {"input_ids": prompt, "labels": target}
        return {"input_ids": prompt + target, "labels": [IGNORED] * len(prompt) + target}

    @staticmethod
    def _keep(dataset: Dataset, counts: dict[str, int], folder: Path) -> KeptTokens:
        """Into the cache by a rename, so that a reader sees all of it or none."""
        hint = "Make room there, or set XDG_CACHE_HOME to a folder on another disk."
        with room_for(folder, dataset.data.nbytes, hint):
            return Tokenization._write(dataset, counts, folder)

    @staticmethod
    def _write(dataset: Dataset, counts: dict[str, int], folder: Path) -> KeptTokens:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            with _without_bars():
                dataset.save_to_disk(temporary)
            files = {path.name: file_sha256(path) for path in temporary.iterdir()}
            kept = KeptTokens(counts=counts, files=files)
            kept.write(temporary / KEPT)
            shutil.rmtree(folder, ignore_errors=True)
            temporary.replace(folder)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            other = _kept(folder)
            if other is not None:  # another process was faster, with the same tokens
                return other
            raise
        return kept


class KeptTokens(Record):
    """What lies in the cache beside the tokens of a split: their counts, and the hash of each of its files."""

    counts: dict[str, int]
    files: dict[str, str]


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the progress bars of datasets: ours tell how far it is."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            enable_progress_bars()


def _kept(folder: Path) -> KeptTokens | None:
    """What is kept in `folder`, if all of it is there and as it was written; else None."""
    try:
        kept = KeptTokens.read(folder / KEPT)
        whole = all(file_sha256(folder / name) == digest for name, digest in kept.files.items())
    except (OSError, ValueError):
        return None
    return kept if whole else None


def keep_tail(ids: list[int], limit: int, tail_length: int) -> tuple[list[int], bool]:
    """At most `limit` ids: the beginning, then the last `tail_length`. Tells whether any were cut."""
    if len(ids) <= limit:
        return ids, False
    tail_length = min(tail_length, limit - 1)
    return ids[: limit - tail_length] + (ids[-tail_length:] if tail_length else []), True


def _go_on(examples: Sequence[Example]) -> list[bool]:
    """Whether each example goes on with the conversation of the one before it: both are turns of one row."""
    goes_on = [bool(one.turns) and one.where == before.where for before, one in pairwise(examples)]
    return [False, *goes_on] if examples else []


def _joined(rows: Iterable[tuple[dict[str, Any], bool]]) -> Iterator[dict[str, Any]]:
    """Rows of a decoder-only model, each with whether it goes on with the one before: as one, where that is the same.

    It is the same where the tokens of the earlier row begin the later row's prompt, so that each target stands after
    the same tokens as in a row of its own. A template may write what was said otherwise than what is asked.
    """
    before: dict[str, Any] | None = None
    for row, goes_on in rows:
        if before is not None:
            ids, prompt = before["input_ids"], row["labels"].count(IGNORED)
            if goes_on and len(ids) < prompt and row["input_ids"][: len(ids)] == ids:
                row["labels"][: len(ids)] = before["labels"]
            else:
                yield before
        before = row
    if before is not None:
        yield before


def count_targets(labels: Sequence[int]) -> int:
    """How many targets a row has: tokens in a row that the loss sees."""
    return sum(seen for seen, _ in groupby(label != IGNORED for label in labels))


def _generation_row(example: Example, prompt: list[int]) -> dict[str, Any]:
    return {
        "id": example.id,
        "input": example.input,
        "columns": example.columns,
        "references": list(example.references),
        "input_ids": prompt,
    }


def load_tokens(folder: str | Path) -> Dataset:
    """A split from the cache, memory-mapped."""
    from datasets import load_from_disk

    return load_from_disk(str(folder))
