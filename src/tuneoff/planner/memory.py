"""One arm's memory: the peak of each phase, and what its process holds at most."""

from __future__ import annotations

from tuneoff.planner.batches import Batches
from tuneoff.planner.predictor import Predictor
from tuneoff.planner.process import Held, Process
from tuneoff.records import PlannedStep

LOGITS_BYTES = 12  # of a target token and a word of the vocabulary, in fp32: its logit, its probability, its gradient
WORTH = 0.02  # the share of a peak that is worth another step to be computed


class ArmMemory:
    """Predicts what an arm's processes hold, by the micro-batch. A figure is computed where it is asked for, once."""

    def __init__(self, predictor: Predictor, batches: Batches, process: Process, vocabulary: int, trains: bool) -> None:
        self._predictor, self._batches, self._process = predictor, batches, process
        self._vocabulary, self._trains = vocabulary, trains
        self._longest: dict[int, dict[str, PlannedStep]] = {}
        self._validation: dict[int, Held | None] = {}
        self._training: dict[int, list[Held]] = {}
        self._checks: dict[tuple[tuple[int, ...], bool], Held] = {}

    def longest(self, micro_batch: int) -> PlannedStep:
        """The peak of the longest step in micro-batches of this size, the optimizer's state there."""
        return max(self._phases(micro_batch).values(), key=lambda step: step.peak)

    def longest_of_all_layers(self, micro_batch: int) -> PlannedStep:
        """The same from all layers; known from then on, so that what fits is judged by it, too."""
        if self._predictor.deep:
            micros = self._batches.micros(self._batches.order[0], micro_batch)[:2]
            self._longest[micro_batch] = self._predictor.phases(micros, whole_model=True)
            self._training.pop(micro_batch, None)
        return self.longest(micro_batch)

    def typical(self, micro_batch: int) -> PlannedStep:
        """The peak of a step of median length."""
        return self._predictor.memory(self._batches.micros(self._batches.typical, micro_batch)[:2])

    def validation(self, micro_batch: int) -> Held | None:
        """The peak of validation, the optimizer's state there; None where nothing is validated."""
        if micro_batch not in self._validation:
            parts = self._batches.validation(micro_batch)
            found = [self._predictor.validation(part, self._is_split(micro_batch)) for part in parts]
            self._validation[micro_batch] = max(found, key=self._process.peak, default=None)
        return self._validation[micro_batch]

    @property
    def generation(self) -> Held:
        """The peak of generation on the longest inputs."""
        return self._predictor.generating(None).held

    def process_peak(self, micro_batch: int) -> int:
        """Bytes that a process of the arm holds at most, in whatever phase."""
        return max(self.training_process_peak(micro_batch), self.generation_process_peak(None))

    def slack(self, micro_batch: int) -> int:
        """How many of them the allocator holds beside what is alive."""
        phases = [*self._training_phases(micro_batch), self.generation]
        return self._process.slack(max(phases, key=self._process.peak))

    def training_process_peak(self, micro_batch: int) -> int:
        """The most that a process holds in training and validation alone; 0 where nothing is trained."""
        return max(map(self._process.peak, self._training_phases(micro_batch)), default=0)

    def _training_phases(self, micro_batch: int) -> list[Held]:
        if not self._trains:
            return []
        validation = self.validation(micro_batch)
        return [*self._steps(micro_batch), *([] if validation is None else [validation])]

    def generation_process_peak(self, batch_size: int | None) -> int:
        """The same in generation alone, of so many texts at once (None: as the recipe has it)."""
        return self._process.peak(self._predictor.generating(batch_size).held)

    def _steps(self, micro_batch: int) -> list[Held]:
        """What is held at the peaks of the check and of the steps that can take most, the optimizer's state there.

        In the first step, which is the longest, freed memory is given back at once: it has no slack, unless later
        epochs take the same step again.
        """
        if micro_batch in self._training:
            return self._training[micro_batch]
        batches, longest = self._batches, self.longest(micro_batch)
        held = [_held(longest) if batches.repeats else Held(longest.peak, 0), self._check(micro_batch)]
        first, last = batches.order[0], batches.order[-1]
        if len(batches.order) > 1 and (not batches.repeats or batches.tokens(last) > batches.tokens(first)):
            held.append(_held(self._predictor.memory(batches.micros(last, micro_batch)[:2])))
        other, usual = batches.most_targets(micro_batch), batches.micros(first, micro_batch)[:2]
        more = (max(map(batches.targets, other)) - max(map(batches.targets, usual))) * self._vocabulary * LOGITS_BYTES
        if more > WORTH * longest.peak:
            held.append(_held(self._predictor.memory(other)))
        self._training[micro_batch] = held
        return held

    def _check(self, micro_batch: int) -> Held:
        examples = self._batches.checked(micro_batch, checkpointing=self._predictor.checkpointing)
        key = tuple(examples), self._is_split(micro_batch)
        if key not in self._checks:
            self._checks[key] = self._predictor.check(examples, key[1])
        return self._checks[key]

    def _is_split(self, micro_batch: int) -> bool:
        """Whether the longest step has several micro-batches."""
        return len(self._batches.micros(self._batches.order[0], micro_batch)) > 1

    def _phases(self, micro_batch: int) -> dict[str, PlannedStep]:
        """Of two micro-batches of the longest step: beside the second's activations lie the first's gradients."""
        if micro_batch not in self._longest:
            micros = self._batches.micros(self._batches.order[0], micro_batch)[:2]
            self._longest[micro_batch] = self._predictor.phases(micros)
        return self._longest[micro_batch]


def _held(step: PlannedStep) -> Held:
    return Held.of(step.components, step.without_slack)
