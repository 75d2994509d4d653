"""Plans for a GPU where there is none: one with room for all, and one with room for two at once.

Prints both as JSON, a line each; they say what would be on a device with no room, too.

torch's name for devices of others (`privateuseone`) is taken by one without memory or kernels. Fake tensors can lie on
it, and autograd follows them; a computation that leaves it, or mixes it with the CPU, fails as on a GPU.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import optimizer
from torch.utils import backend_registration

from tuneoff.planner import arm, plan
from tuneoff.planner.fit import Device
from tuneoff.planner.speed import Speed
from tuneoff.recipe import Recipe
from tuneoff.records import Plan

NAME = "pretended"


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def main(data: Path) -> None:
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    FakeTensorMode.avoid_device_init = property(lambda _: True)  # type: ignore[assignment]  # values stay on the CPU
    optimizer._get_fused_kernels_supported_devices = lambda: [NAME]  # type: ignore[attr-defined]
    arm.rough = lambda *_: Speed(flop=1e-12, byte=1e-10, call=1e-6, spread=1.0, source="made up")
    plan.pick_device = lambda: torch.device(NAME)
    from tests.planner.test_planner import begin, plan_of

    recipe, inputs = begin(data, layers=1)
    in_twos = recipe.model_copy(update={"training": recipe.training.model_copy(update={"micro_batch": 2})})

    def plan_on(capacity: int, recipe: Recipe) -> Plan:
        plan.this_machine = lambda: Device("pretended GPU", capacity)
        return plan_of(recipe, inputs, [Device("none", 1)])

    large = plan_on(2**40, in_twos)
    small = plan_on(max(arm.process_peak or 0 for arm in large.arms), recipe)
    sys.stdout.write(f"{large.model_dump_json()}\n{small.model_dump_json()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
