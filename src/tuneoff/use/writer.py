"""A finished arm that writes for new inputs, with the prompt, precision and search of its trial."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
    """One arm of a run at one seed, or at the first that has finished. Raises RunFolderError where none has."""

    def __init__(self, folder: RunFolder, arm: str, seed: int | None = None) -> None:
        folder.require()
        self.recipe: Recipe = read_recipe(folder.recipe).recipe
        if arm not in self.recipe.arms:
            raise RunFolderError(f"{folder.path} has no arm {arm!r}; {nearest(arm, self.recipe.arms)}")
        self.name, self.spec = arm, self.recipe.arms[arm]
        self.seed, self.result = self._result(folder, seed)
        self.trial = folder.trial(arm, self.seed)
        self.prepared = Prepared.read(folder.prepared)

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
