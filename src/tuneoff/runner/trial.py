"""What the two processes of a trial share: the one that trains and saves, and the one that loads, writes and scores.

They are two so that each arm's texts are written in a process that has done nothing else: its memory is then that of
generation, and not of what training has left.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import peft  # noqa: F401  in every arm, or the first to need it would be charged for its memory

from tuneoff.data.contents import require_same_model
from tuneoff.folder import TrialFolder
from tuneoff.measure import allocator
from tuneoff.measure.clock import Clock
from tuneoff.measure.load import LoadMeter
from tuneoff.measure.memory import MemoryMeter
from tuneoff.measure.times import PartTimes
from tuneoff.measure.use import UseMeter
from tuneoff.measure.yardstick import Yardstick
from tuneoff.model.device import pick_device, settled_precision, synchronize
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Trial, resolved_recipe
from tuneoff.records import Resolved
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TrialProcess:
    """One process of a trial. Made before the model is loaded, since memory is measured from there.

    Raises ModelError where the original model has been changed since the run began.
    """

    def __init__(self, resolved: Resolved, trial: Trial, folder: TrialFolder, report: Reporter, stop: Stop) -> None:
        require_same_model(resolved)
        self._resolved, self._trial, self._folder = resolved, trial, folder
        self._report, self._stop = report, stop
        self._recipe = resolved_recipe(resolved)
        self._arm = self._recipe.arms[trial.arm]
        self._engine_name = resolved.engines[trial.arm].name
        self._device = pick_device()
        self._precision = settled_precision(resolved.precision, resolved.precision_reason, self._device)
        self._load = LoadMeter(self._device)
        report.measure(UseMeter(self._device))
        self._clock = Clock(lambda: synchronize(self._device), self._load)
        self._yardstick = Yardstick(self._device)
        allocator.tidy()
        self._meter = MemoryMeter(self._device)

    def _phase(self, name: str) -> Any:
        """Tell what begins, and count its time."""
        self._report.phase(name)
        return self._clock.phase(name)

    def _part_times(self, path: Path) -> PartTimes:
        return PartTimes(path, self._load, self._yardstick, self._clock)

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self._resolved.tokenizer_path, self._resolved.tokenizer_revision)
