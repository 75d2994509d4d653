"""A CTranslate2 model, by its own converter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ExportError, first_line
from tuneoff.runner.finished import Finished
from tuneoff.use.export.merged import require_plain_model, scored_model, search_config

if TYPE_CHECKING:
    from transformers import GenerationConfig


def write_ctranslate2(finished: Finished, folder: Path) -> GenerationConfig:
    """The model in the trial's precision, and its tokenizer. Raises ExportError where the converter cannot take it."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merged-") as merged:
        model = scored_model(finished)
        search = search_config(finished, model)
        require_plain_model(finished, search, "CTranslate2")
        model.save_pretrained(merged)
        finished.tokenizer.save_pretrained(merged)
        del model
        try:
            convert(Path(merged), folder)
        except Exception as error:  # an architecture, activation or setting that it does not know: of several types
            first = first_line(error).partition(" (supported")[0]
            raise ExportError(
                f"arm {finished.name}: CTranslate2's converter does not take this model: {first}. "
                "--format merged takes any, onnx may"
            ) from error
    finished.tokenizer.save_pretrained(folder)
    return search


def convert(model: Path, folder: Path) -> None:
    """The transformers model in `model`, with its tokenizer, as a CTranslate2 model in `folder`, which it empties."""
    from ctranslate2.converters import TransformersConverter  # type: ignore[import-untyped]

    class Converter(TransformersConverter):
        def load_model(self, model_class: Any, model_name_or_path: str, **settings: Any) -> Any:
            model = super().load_model(model_class, model_name_or_path, **settings)
            # transformers 5 calls every T5 tied; the converter would scale the logits of those that are not, as Flan-T5
            # is, which greedy search does not notice and beam search does.
            scaled = getattr(model.config, "scale_decoder_outputs", None)
            if scaled is not None:
                model.config.tie_word_embeddings = scaled
            return model

        def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **settings: Any) -> Any:
            tokenizer = super().load_tokenizer(tokenizer_class, model_name_or_path, **settings)
            if tokenizer.bos_token is None:  # it would be null in config.json, which CTranslate2 cannot read
                tokenizer.bos_token = tokenizer.eos_token
            return tokenizer

    Converter(str(model)).convert(str(folder), force=True)
