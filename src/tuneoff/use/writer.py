"""A finished arm that writes for new inputs, with the prompt, precision and search of its trial."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Written(Generated):
    """What an arm wrote for one row, whose prompt has `prompt_tokens`, of which the model was shown `read_tokens`."""

    prompt_tokens: int
    read_tokens: int


class Writer:
    """Writes what the arm's trial would have written, with its adapter merged where the trial merged it.

    `model` is the arm's, where it has been loaded before; it stays as it is.
    """

    def __init__(self, finished: Finished, model: Any = None) -> None:
        self._finished = finished
        self._prompt = Prompt(finished.recipe.prompt)
        self.columns = self._prompt.columns
        model = finished.model() if model is None else model
        self._engine = pick_engine(finished.recipe.training, model).name
        merge = self._engine == "fast" and uses_peft(finished.spec.method)
        self._model = merged(model) if merge else model

    def write(
        self, rows: Sequence[Mapping[str, str]], report: Callable[[int, int], None] = lambda *_: None
    ) -> list[Written]:
        """The texts for rows that have the prompt's columns, in their order."""
        if not rows:
            return []
        evaluation = self._finished.recipe.evaluation
        prompts = self._finished.tokeniser.measured_prompts([self._prompt.fill(row) for row in rows])
        outputs = generate(
            self._model,
            self._finished.tokenizer,
            [ids for ids, _ in prompts],
            model_class=self._finished.prepared.model_class,
            max_new_tokens=evaluation.max_new_tokens,
            num_beams=evaluation.num_beams,
            batch_size=evaluation.batch_size,
            engine=self._engine,
            report=report,
        )
        return [
            Written(o.text, o.truncated, o.tokens, prompt_tokens=length, read_tokens=len(ids))
            for o, (ids, length) in zip(outputs, prompts, strict=True)
        ]


def merged(model: Any) -> Any:
    """The plain model that peft's `model` becomes with its adapter merged.

    `model` stays as it is: the weights that the adapter changes are copied, all others are shared with it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for changed in layer.get_base_layer().parameters():
                shared.pop(id(changed), None)
    return copy.deepcopy(model, shared).merge_and_unload()
