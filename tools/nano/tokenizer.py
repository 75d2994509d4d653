"""The unigram tokenizer of `builtin:dialog-t5-nano`, in the layout of T5's: pieces, then 100 sentinels."""

from __future__ import annotations

import json
import random
import string

from corpus import Document
from transformers import T5Tokenizer

SENTINELS = 100
PIECES = 5900
TAGS = [f"▁#Person{n}#{colon}" for n in (1, 2) for colon in (":", "")]  # one token each: they open every turn
TAG_SCORE = -3.0
SAMPLE = 12_000  # documents that the pieces are counted on
LETTERS = string.printable.strip() + "àáâäãåæçèéêëìíîïñòóôöõøœùúûüýÿßÄÖÜÉÈÅØÑÇ“”‘’–—…€£°½"


def train(documents: list[Document], seed: int) -> T5Tokenizer:
    """A tokenizer of `PIECES` pieces with the sentinels, trained on a sample of the documents."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    chosen = random.Random(seed).sample(documents, min(SAMPLE, len(documents)))
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
        ]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=PIECES,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        initial_alphabet=sorted(set(LETTERS)),
        show_progress=False,
    )
    backend.train_from_iterator((unit for document in chosen for unit in document.units), trainer)
    vocabulary = json.loads(backend.to_str())["model"]["vocab"]
    pieces = [(piece, score) for piece, score in vocabulary if piece not in TAGS]
    pieces += [(tag, TAG_SCORE) for tag in TAGS]
    pieces += [(f"<extra_id_{n}>", 0.0) for n in reversed(range(SENTINELS))]
    return T5Tokenizer(vocab=pieces, extra_ids=SENTINELS, model_max_length=1024)
