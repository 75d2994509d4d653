"""What the memory of a training step consists of: weights, gradients, optimizer state, activations, temporary.

By `torch.distributed._tools.mem_tracker.MemTracker`, which follows every tensor's storage through a
real step. It is private to torch, so it is imported here alone, and where it fails the components
are `not measured`, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuneoff.errors import first_line
from tuneoff.measure.allocator import QUICK_MMAP_BYTES
from tuneoff.records import PhaseMemory

COMPONENTS = {
    "weights": ("Parameter",),
    "buffers": ("Buffer",),
    "gradients": ("Gradient",),
    "optimizer": ("Optstate",),
    "activations": ("Activation",),
    "temporary": ("Temp", "Other"),
}


def measure_components(memory: PhaseMemory, model: Any, optimizer: Any, step: Callable[[], None]) -> PhaseMemory:
    """`memory` with the components of one real training step.

    `components` are bytes at the moment of the step's peak; `components_own_peaks` are each one's
    own maximum, at moments of their own (gradients can be 0 at the step's peak and large later).
    `step` runs forward, backward and the optimizer's step on the largest batch.
    """
    try:
        tracked = track(model, optimizer, step)
    except Exception as error:  # a private API: whatever it raises, the run must go on without it
        reason = f"components: {type(error).__name__}: {first_line(error)}"
        return memory.model_copy(update={"not_measured": reason})
    return memory.model_copy(update={"components": tracked.at_peak, "components_own_peaks": tracked.own})


@dataclass(frozen=True)
class Tracked:
    """Bytes by component: at the peak of each phase (forward, backward, update), and each one's own maximum.

    `large` has what of a phase's peak lies in blocks that the step makes and that the allocator gives back once freed.
    `sums` are the bytes of gradients that are added up in fp32 and held for the whole training.
    """

    phases: dict[str, dict[str, int]]
    own: dict[str, int]
    large: dict[str, int]
    sums: int

    @property
    def peak_phase(self) -> str:
        """The phase of the whole step's peak."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def at_peak(self) -> dict[str, int]:
        """The components at the moment of the whole step's peak."""
        return self.phases[self.peak_phase]


def track(model: Any, optimizer: Any, step: Callable[[], None]) -> Tracked:
    """The components of a step. Raises what torch does.

    `optimizer` is None for a step that trains nothing.
    """
    from torch.distributed._tools import mem_tracker

    tracker = _tracker_class(mem_tracker)()
    tracker.track_external(model, *([] if optimizer is None else [optimizer]))
    with tracker:
        step()
    state = _state_bytes(optimizer)
    # What bf16 weights lack to their fp32 values, and fp32 sums of gradients, lie in the optimizer (train.adamw).
    rests = sum(rest.nbytes for rest in getattr(optimizer, "rests", {}).values())
    sums = sum(gradient.nbytes for gradient in getattr(optimizer, "sums", {}).values())

    def components(by_category: dict[str, int]) -> dict[str, int]:
        own = _by_component(by_category)
        # MemTracker files all that the optimizer's step makes under its state; what goes with the step is temporary.
        own["temporary"] += own["optimizer"] - state
        own["optimizer"] = state
        own["weights"] += rests
        own["gradients"] += sums
        return own

    phases = {phase: components(snapshot) for phase, snapshot in tracker.phase_peaks.items()}
    own = _by_component(tracker.own_peaks)
    own["temporary"] = max(own["temporary"], own["optimizer"] - state)
    own["optimizer"] = state
    own["weights"] += rests
    own["gradients"] += sums
    return Tracked(phases, own, tracker.large_at_peak, sums)


def _state_bytes(optimizer: Any) -> int:
    if optimizer is None:
        return 0
    values = [value for states in optimizer.state.values() for value in states.values()]
    return sum(value.untyped_storage().nbytes() for value in values if hasattr(value, "untyped_storage"))


def _by_component(by_category: dict[str, int]) -> dict[str, int]:
    known = {category for categories in COMPONENTS.values() for category in categories}
    unknown = by_category.keys() - known - {"Total"}
    if unknown:
        raise ValueError(f"MemTracker reports unknown categories {sorted(unknown)}")
    return {name: sum(by_category.get(c, 0) for c in categories) for name, categories in COMPONENTS.items()}


def _tracker_class(mem_tracker: Any) -> Any:
    class Tracker(mem_tracker.MemTracker):
        """MemTracker that admits frozen parameters and several calls, and keeps the peaks of phases and categories."""

        def __init__(self) -> None:
            super().__init__()
            self.own_peaks: dict[str, int] = {}
            self.phase_peaks: dict[str, dict[str, int]] = {}
            self.large_at_peak: dict[str, int] = {}
            self._large: dict[int, int] = {}  # bytes of each large block that is alive
            self._entered = False

        def __enter__(self) -> Any:
            self._entered = True
            return super().__enter__()

        def _update_snap(self, u_type: Any, winfo: Any, *rest: Any, **named: Any) -> None:
            super()._update_snap(u_type, winfo, *rest, **named)
            if u_type.name == "ADD" and self._entered and winfo.mem_consumed >= QUICK_MMAP_BYTES:
                self._large[id(winfo)] = winfo.mem_consumed
            elif u_type.name == "DEL":
                self._large.pop(id(winfo), None)

        def _track_module_params_and_buffers(self, module: Any, install_grad_hooks: bool = True) -> Any:
            # The original hooks every parameter, and autograd refuses hooks on frozen ones: let them
            # seem trainable while it does. Nothing computes meanwhile.
            frozen = [p for p in module.parameters() if not p.requires_grad]
            for parameter in frozen:
                parameter.requires_grad_(True)
            try:
                return super()._track_module_params_and_buffers(module, install_grad_hooks)
            finally:
                for parameter in frozen:
                    parameter.requires_grad_(False)

        def _pre_fw_hook(self, module: Any, inputs: Any) -> None:
            # The original admits each module's call from outside once. What it forgets here is per module alone.
            if module in self.memory_tracking and not self._mod_tracker.is_bw and self._called_from_outside(module):
                self.reset_mod_stats()
            super()._pre_fw_hook(module, inputs)

        def _called_from_outside(self, module: Any) -> bool:
            own = self._mod_tracker.get_known_fqn(module)
            return set(self._mod_tracker.parents) - {own} == {"Global"}

        def _update_peak_stats(self, peak_state: Any) -> None:
            # Not the original's, which goes through every module at every operation, for peaks that nobody reads here.
            phase = "update" if self._in_opt else "backward" if self._mod_tracker.is_bw else "forward"
            now: dict[str, int] = {}
            for categories in self._curr_mem_snap.values():
                for category, size in categories.items():
                    name = str(getattr(category, "value", category))
                    now[name] = now.get(name, 0) + size
            for name, size in now.items():
                self.own_peaks[name] = max(self.own_peaks.get(name, 0), size)
            if phase not in self.phase_peaks or now["Total"] > self.phase_peaks[phase]["Total"]:
                self.phase_peaks[phase] = now
                self.large_at_peak[phase] = sum(self._large.values())

    return Tracker
