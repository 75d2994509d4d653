"""Models' weights on the disk, as a diagnosis reads them."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from torch import nn

from tuneoff.diagnose.stored import StoredWeights

_FOLDER, _NUMBERS = tempfile.TemporaryDirectory(), count()


def stored(model: nn.Module) -> StoredWeights:
    """In a folder that is gone when the tests are done."""
    return StoredWeights(Path(_FOLDER.name) / f"{next(_NUMBERS)}.safetensors", model)
