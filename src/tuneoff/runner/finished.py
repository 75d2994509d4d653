"""A finished arm of a run: its model, tokenizer and recipe, as its trial had them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.data.contents import require_same_model, require_saved
from tuneoff.data.pretrained import Pins, original_place
from tuneoff.data.tokens import Tokenization
from tuneoff.errors import RunFolderError, nearest
from tuneoff.folder import RunFolder
from tuneoff.model.device import Precision, pick_device, pick_precision
from tuneoff.model.saved import load_arm
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.progress import UNHEARD
from tuneoff.recipe import Recipe, recipe_of
from tuneoff.records import Resolved, TrialResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Finished:
    """One arm of a run at one seed, or at the first that has finished, by the recipe that its trials ran by.

    Raises RunFolderError where none has finished, and where nothing says what it ran on.
    """

    def __init__(self, folder: RunFolder, arm: str, seed: int | None = None) -> None:
        self.recipe: Recipe = recipe_of(folder)
        if arm not in self.recipe.arms:
            raise RunFolderError(f"{folder.path} has no arm {arm!r}; {nearest(arm, self.recipe.arms)}")
        self.run = folder.path.resolve().name
        self.name, self.spec = arm, self.recipe.arms[arm]
        self.seed, self.result = self._result(folder, seed)
        self.trial = folder.trial(arm, self.seed)
        if not folder.resolved.is_file():
            raise RunFolderError(
                f"{folder.path} has a finished trial and no resolved.json, which says what it ran on: an older tuneoff "
                f"made it. `tuneoff run {folder.recipe} --out ANOTHER_FOLDER` makes it anew."
            )
        self.resolved = _in_its_place(Resolved.read(folder.resolved), self.recipe, folder)
        self.resolved.origin.require_own(self.result.origin, self.trial.result)

    def _result(self, folder: RunFolder, asked: int | None) -> tuple[int, TrialResult]:
        seeds = self.recipe.seeds
        if asked is not None and asked not in seeds:
            raise RunFolderError(f"{folder.path} has no seed {asked}; the choices are: {', '.join(map(str, seeds))}")
        if not self.spec.trains:
            seeds = seeds[:1]  # it is the same at every seed
        elif asked is not None:
            seeds = [asked]
        for seed in seeds:
            path = folder.trial(self.name, seed).result
            result = TrialResult.read(path) if path.is_file() else None
            if result is not None and result.status == "done":
                return seed, result
        raise RunFolderError(
            f"{folder.path}: arm {self.name} at seed {seeds[0]} has not finished. "
            f"`tuneoff run --out {folder.path}` goes on with it."
        )

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.resolved.tokenizer_path, self.resolved.tokenizer_revision)

    @cached_property
    def tokenization(self) -> Tokenization:
        return Tokenization.of(self.recipe, self.tokenizer, self.resolved.model_class, self.resolved.chat)

    def model(self) -> Any:
        """A transformers model, or peft's around one, on this machine's device and in the trial's precision."""
        self.require_whole()
        dtype = self.precision.dtype
        return load_arm(self.resolved, self.spec.method, self.trial.model, dtype).to(pick_device()).eval()

    def require_whole(self) -> None:
        """Raise ModelError or DamagedFileError where the original model or what was saved is not what it was."""
        require_same_model(self.resolved)
        if self.result.training is not None:
            require_saved(self.trial.model, self.result.training)

    @property
    def precision(self) -> Precision:
        """What the trial asks for, on this machine's device."""
        return pick_precision(self.recipe.training.precision, pick_device())


def _in_its_place(resolved: Resolved, recipe: Recipe, folder: RunFolder) -> Resolved:
    """`resolved` with today's place of a model that was built for the run, or converted from a GGUF file.

    The former lies in the run's folder, which may have been moved; the latter in the cache, where it is made again if
    it is gone. Raises ModelError where the file is gone, too.
    """
    if resolved.gguf is not None and not Path(resolved.model_path).is_dir():
        place = original_place(recipe.model, Pins(model=resolved.model_revision), UNHEARD)
        assert place is not None
        base = place.path
    elif recipe.model.name is None:
        base = str(folder.base.resolve())
    else:
        return resolved
    own_tokenizer = resolved.tokenizer_path == resolved.model_path
    return resolved.model_copy(
        update={"model_path": base, "tokenizer_path": base if own_tokenizer else resolved.tokenizer_path}
    )
