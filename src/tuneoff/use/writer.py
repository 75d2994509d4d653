"""A finished arm that writes for new inputs, with the prompt, precision and search of its trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.data.prompt import Prompt
from tuneoff.data.tokens import Tokeniser
from tuneoff.decode.generate import Generated, generate
from tuneoff.errors import RunFolderError, nearest
from tuneoff.folder import RunFolder
from tuneoff.model.device import pick_device, pick_precision
from tuneoff.model.engine import pick_engine
from tuneoff.model.methods import uses_peft
from tuneoff.model.saved import load_arm
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Recipe, read_recipe
from tuneoff.records import Prepared, TrialResult

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Finished:
    """One arm of a run at one seed, finished. Raises RunFolderError where it is not."""

    def __init__(self, folder: RunFolder, arm: str, seed: int | None = None) -> None:
        folder.require()
        self.recipe: Recipe = read_recipe(folder.recipe).recipe
        if arm not in self.recipe.arms:
            raise RunFolderError(f"{folder.path} has no arm {arm!r}; {nearest(arm, self.recipe.arms)}")
        self.name, self.spec = arm, self.recipe.arms[arm]
        self.seed = self.recipe.seeds[0] if seed is None or not self.spec.trains else seed
        self.trial = folder.trial(arm, self.seed)
        self.result = self._result(folder.path)
        self.prepared = Prepared.read(folder.prepared)

    def _result(self, run: Path) -> TrialResult:
        result = TrialResult.read(self.trial.result) if self.trial.result.is_file() else None
        if result is None or result.status != "done":
            raise RunFolderError(
                f"{run}: arm {self.name} at seed {self.seed} has not finished. "
                f"`tuneoff run --out {run}` goes on with it."
            )
        return result

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.prepared.tokenizer_path, self.prepared.tokenizer_revision)

    @cached_property
    def tokeniser(self) -> Tokeniser:
        data, prompt = self.recipe.data, Prompt(self.recipe.prompt)
        return Tokeniser(
            self.tokenizer, self.prepared.model_class, prompt.tail, data.max_source_length, data.max_target_length
        )

    def model(self) -> Any:
        """A transformers model, or peft's around one, on this machine's device and in the trial's precision."""
        device = pick_device()
        precision = pick_precision(self.recipe.training.precision, device)
        return load_arm(self.prepared, self.spec.method, self.trial.model, precision.dtype).to(device).eval()


class Writer:
    """Writes what the arm's trial would have written. The model is loaded once, and its adapter merged."""

    def __init__(self, finished: Finished) -> None:
        self._finished = finished
        self._prompt = Prompt(finished.recipe.prompt)
        self.columns = self._prompt.columns
        model = finished.model()
        self._engine = pick_engine(finished.recipe.training, model).name
        if self._engine == "fast" and uses_peft(finished.spec.method):
            model = model.merge_and_unload()
        self._model = model

    def write(
        self, rows: Sequence[Mapping[str, str]], report: Callable[[int, int], None] = lambda *_: None
    ) -> list[Generated]:
        """The texts for rows that have the prompt's columns, in their order."""
        if not rows:
            return []
        evaluation = self._finished.recipe.evaluation
        return generate(
            self._model,
            self._finished.tokenizer,
            self._finished.tokeniser.prompts([self._prompt.fill(row) for row in rows]),
            model_class=self._finished.prepared.model_class,
            max_new_tokens=evaluation.max_new_tokens,
            num_beams=evaluation.num_beams,
            batch_size=evaluation.batch_size,
            engine=self._engine,
            report=report,
        )
