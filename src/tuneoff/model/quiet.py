"""What libraries say while they load, merge and convert: nothing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings, notes and bars of transformers, peft and torch.onnx are not shown meanwhile."""
    from transformers.utils import logging as transformers_logging

    exporter = logging.getLogger("torch.onnx")
    before = exporter.level, transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    exporter.setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(before[0])
        transformers_logging.set_verbosity(before[1])
        if before[2]:
            transformers_logging.enable_progress_bar()
