"""A finished arm that writes for new inputs, with the prompt, precision and search of its trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.decode.generate import Generated, generate
from tuneoff.model.engines import engine_for
from tuneoff.model.merge import merged_for_generation
from tuneoff.runner.finished import Finished

if TYPE_CHECKING:
    pass


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
        self._finished, self._tokenization = finished, finished.tokenization
        self.columns = self._tokenization.rendering.columns
        model = finished.model() if model is None else model
        name = finished.resolved.engines[finished.name].name
        model = merged_for_generation(model, name, keep=True)
        self._engine = engine_for(name, model, bf16=finished.precision.name == "bf16")

    def write(
        self, rows: Sequence[Mapping[str, str]], report: Callable[[int, int], None] = lambda *_: None
    ) -> list[Written]:
        """The texts for rows that have the prompt's columns, in their order.

        A conversation stands in the column `messages`: what the user says, or JSON of messages with role and content.
        Raises DataError where a row cannot be put into the model's words.
        """
        if not rows:
            return []
        evaluation = self._finished.recipe.evaluation
        prompts = self._tokenization.prompts(rows)
        outputs = generate(
            self._engine,
            self._tokenization.tokenizer,
            [ids for ids, _ in prompts],
            max_new_tokens=evaluation.max_new_tokens,
            search=evaluation.search,
            batch_size=evaluation.batch_size,
            report=report,
            chat=self._finished.resolved.chat,
        )
        return [
            Written(o.text, o.truncated, o.tokens, prompt_tokens=length, read_tokens=len(ids))
            for o, (ids, length) in zip(outputs, prompts, strict=True)
        ]
