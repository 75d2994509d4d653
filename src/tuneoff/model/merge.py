"""Whether an adapter is merged into the weights that it adapts: one rule for trials, servers and exports."""

from __future__ import annotations

import copy
from typing import Any

from tuneoff.model.engines import ENGINES


def merged_for_generation(model: Any, engine: str, *, keep: bool = False) -> Any:
    """The model that texts are written by: `model` with its adapter merged where `engine` wants that.

    An adapter is merged only where that changes nothing else: it stays as it is where peft cannot merge it, and where
    an adapted layer shares its weights with another module. With `keep` the weights of `model` stay as they are: those
    that the adapter changes are copied, and all others are shared with the merged model.
    """
    if not is_merged(model, engine):
        return model
    return (_copied(model) if keep else model).merge_and_unload()


def is_merged(model: Any, engine: str) -> bool:
    """Whether `merged_for_generation` merges the adapter of `model`."""
    return ENGINES[engine].merges_adapters and can_merge(model) and not shared_adapted_layers(model)


def shared_adapted_layers(model: Any) -> list[str]:
    """The names of adapted layers whose base weights another module uses, too, as an output layer tied to embeddings.

    Merging an adapter into such a layer would change that other module.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    uses: dict[int, int] = {}
    for module in model.modules():
        for weight in module._parameters.values():
            if weight is not None:
                uses[id(weight)] = uses.get(id(weight), 0) + 1
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, BaseTunerLayer)
        and any(uses[id(weight)] > 1 for weight in layer.get_base_layer()._parameters.values() if weight is not None)
    ]


def can_merge(model: Any) -> bool:
    """Whether peft merges this model's adapter: a layer of each kind is merged in a copy, where it has values."""
    from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer

    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, BaseTuner) or not hasattr(tuner, "merge_and_unload"):
        return False
    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    kinds = {(type(layer), getattr(layer.get_base_layer(), "bias", None) is None): layer for layer in layers}
    return bool(layers) and all(_layer_merges(layer) for layer in kinds.values())


def _layer_merges(layer: Any) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch._subclasses.fake_tensor import FakeTensor

    if type(layer).merge is BaseTunerLayer.merge:
        return False
    if any(isinstance(weight, FakeTensor) for weight in layer.parameters()):
        return True
    try:
        copy.deepcopy(layer).merge()
    except Exception:  # each method has its own way to say that it cannot
        return False
    return True


def _copied(model: Any) -> Any:
    """A copy of `model` that shares all weights but those that its adapter changes when it is merged."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for changed in layer.get_base_layer().parameters():
                shared.pop(id(changed), None)
    return copy.deepcopy(model, shared)
