"""The rank with which a method trains as many parameters as were asked for: found on the meta device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ModelError
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import build_model, model_class
from tuneoff.model.methods import STEPS, adapt
from tuneoff.recipe.arm import RANK

if TYPE_CHECKING:
    from transformers import PretrainedConfig

STARTS = "init_lora_weights"  # some need values, and none has a bearing on the number of parameters


def solve_rank(config: PretrainedConfig, method: str, settings: dict[str, Any], params: int) -> int:
    """The rank whose number of trainable parameters is nearest to `params`; of two, the smaller.

    Raises ModelError where a rank of 1 trains more, where the whole model has fewer, where the parameters do not grow
    with the rank, and where peft refuses the method for this model.
    """
    import torch

    settings = {key: value for key, value in settings.items() if key != STARTS}
    with torch.device("meta"):
        total = count_parameters(build_model(copy.deepcopy(config))).total

    def count(rank: int) -> int:
        with torch.device("meta"):
            model = build_model(copy.deepcopy(config))
            adapted = adapt(model, method, {**settings, RANK: rank}, model_class(config), STEPS)
        return count_parameters(adapted).trainable

    least = count(1)
    if least > params:
        raise ModelError(f"{params:,} trainable parameters are too few: already {RANK} = 1 has {least:,}")
    if params > total:
        raise ModelError(f"{params:,} trainable parameters are too many: the whole model has {total:,}")
    return _nearest_rank(count, least, params)


def _nearest_rank(count: Callable[[int], int], least: int, params: int) -> int:
    """The rank of the nearest `count`, which has `least` at rank 1 and grows with the rank."""
    known = {1: least}

    def counted(rank: int) -> int:
        if rank not in known:
            known[rank] = count(rank)
        return known[rank]

    growth = counted(2) - least
    if growth <= 0:
        raise ModelError(f"its trainable parameters do not grow with `{RANK}`: {least:,} at 1, {counted(2):,} at 2")
    # Most methods have so many parameters for each unit of rank, and then this is the rank, found at once.
    below = 1 + (params - least) // growth
    if not counted(below) <= params < counted(below + 1):
        below = _last_within(counted, params)
    return min((below, below + 1), key=lambda rank: abs(counted(rank) - params))


def _last_within(counted: Callable[[int], int], params: int) -> int:
    """The largest rank that has no more than `params`: doubled until it has more, then by bisection."""
    low, high = 1, 2
    while counted(high) <= params:
        if counted(high) <= counted(low):
            raise ModelError(f"its trainable parameters do not grow with `{RANK}` beyond {low}: {counted(low):,}")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if counted(middle) <= params else (low, middle)
    return low
