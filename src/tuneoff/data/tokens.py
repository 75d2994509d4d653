"""Examples → token ids, once: kept in a cache under the hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.cache import cache_folder, file_sha256
from tuneoff.data.examples import Example, Examples
from tuneoff.data.prompt import Prompt
from tuneoff.recipe.schema import Recipe
from tuneoff.records import ChatFrame, Record, SplitStatistics
from tuneoff.room import room_for

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

FORMAT = 3  # raise it when the tokens of the same text change
IGNORED = -100  # the label that no loss sees
CHUNK = 256  # examples tokenised between two reports of progress
KEPT = "tokens.json"
PROBE = "a"  # a text that shows which special tokens a tokenizer adds around every text


@dataclass(frozen=True)
class Tokenization:
    """How examples become token ids for one class of model.

    `seq2seq`: the prompt is the encoder's input, the target the decoder's labels. `causal`: prompt
    and target are one sequence that ends in EOS, and the prompt's labels are ignored.
    A prompt longer than `max_source_length` loses the end of its body. It keeps its tail (the text after
    the last column), which tells the model what to do, and the special tokens that the tokenizer ends a text
    with, as the tokenizer's own truncation does. A target that is cut keeps those special tokens, too.
    With `chat`, the prompt is a user's turn, of which the chat template's own text is never cut, and the target ends as
    the assistant's turn does.
    """

    tokenizer: PreTrainedTokenizerBase
    model_class: Literal["seq2seq", "causal"]
    tail: str
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
        data = recipe.data
        tail = Prompt(recipe.prompt).tail
        return cls(tokenizer, model_class, tail, data.max_source_length, data.max_target_length, chat)

    def for_training(self, examples: Examples, progress: Callable[[int, int], None]) -> tuple[Path, SplitStatistics]:
        """Columns `input_ids` and `labels`, in the cache; each example's first reference is its target."""
        return self._cached(examples, "training", progress)

    def for_generation(self, examples: Examples, progress: Callable[[int, int], None]) -> tuple[Path, SplitStatistics]:
        """Columns `id`, `input`, `columns`, `references` and `input_ids` (the prompt alone), in the cache."""
        return self._cached(examples, "generation", progress)

    def prompts(self, texts: list[str]) -> list[list[int]]:
        """The token ids of prompts, each as in `for_generation`."""
        return [ids for ids, _ in self.measured_prompts(texts)]

    def measured_prompts(self, texts: list[str]) -> list[tuple[list[int], int]]:
        """The token ids of prompts, each with the number of tokens that it had before it was cut."""
        kept = self.kept_tokens()
        return [(keep_tail(ids, self.max_source_length, kept)[0], len(ids)) for ids in self._encode(texts)]

    def kept_tokens(self) -> int:
        """How many tokens at a prompt's end a cut keeps: those of the tail and the tokenizer's closing ones."""
        if self.chat is not None:
            return len(self._bare(f"{self.tail}{self.chat.after}"))
        opening, closing = self._added(self._encode)
        return len(self._encode([self.tail])[0]) - opening if self.tail else closing

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

            counts = dict.fromkeys(("truncated_inputs", "truncated_targets", "input_tokens", "target_tokens"), 0)
            rows = list(self._rows(examples, use, counts, progress))
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
            **kept.counts,
        )

    def _key(self, examples: Examples, use: str) -> str:
        digest = hashlib.sha256()
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else json.dumps(sorted(self.tokenizer.get_vocab().items()))
        specials = json.dumps(self.tokenizer.special_tokens_map, default=str, sort_keys=True)
        lengths = self.max_source_length, self.max_target_length
        settings = (FORMAT, use, self.model_class, self.tail, *lengths, self.chat)
        added = self._encode([PROBE]) + self._encode_targets([PROBE])  # language codes among them
        for part in (repr(settings), vocabulary, specials, repr(added), examples.content_sha256):
            digest.update(part.encode())
        digest.update(json.dumps([example.id for example in examples.examples]).encode())
        return digest.hexdigest()[:32]

    def _rows(
        self, examples: Examples, use: str, counts: dict[str, int], progress: Callable[[int, int], None]
    ) -> Iterator[dict[str, Any]]:
        kept_tokens = self.kept_tokens()
        _, closing = self._added(self._encode_targets)
        closing = max(closing, 1)  # EOS stays
        total = len(examples.examples)
        for start in range(0, total, CHUNK):
            chunk = examples.examples[start : start + CHUNK]
            prompts = self._encode([example.prompt for example in chunk])
            targets = self._encode_targets([example.references[0] for example in chunk])
            for example, prompt, target in zip(chunk, prompts, targets, strict=True):
                kept, cut = keep_tail(prompt, self.max_source_length, kept_tokens)
                counts["truncated_inputs"] += cut
                counts["input_tokens"] += len(kept)
                if use == "generation":
                    counts["target_tokens"] += sum(map(len, self._encode_targets(example.references)))
                    yield _generation_row(example, kept)
                    continue
                labels, cut = keep_tail(target, self.max_target_length, closing)
                counts["truncated_targets"] += cut
                counts["target_tokens"] += len(labels)
                yield self._training_row(kept, labels)
            progress(min(start + CHUNK, total), total)

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
        whole = (
            texts if self.chat is None else [self.chat.around(text) for text in texts]
        )  # its special tokens are in it
        encoded: list[list[int]] = self.tokenizer(whole, add_special_tokens=self.chat is None, verbose=False)[
            "input_ids"
        ]
        return encoded

    def _bare(self, text: str) -> list[int]:
        """The tokens of a text by itself."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _encode_targets(self, texts: list[str] | tuple[str, ...]) -> list[list[int]]:
        if self.model_class == "seq2seq":
            encoded: list[list[int]] = self.tokenizer(text_target=list(texts), verbose=False)["input_ids"]
            return encoded
        begin = " " if self.chat is None else self.chat.answer_before  # the target goes on where the prompt ends
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
