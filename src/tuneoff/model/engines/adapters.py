"""What engines of our own ask of an adapter: that it changes single layers, and nothing around them."""

from __future__ import annotations

from typing import Any

from peft import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner


def without_adapter(model: Any) -> Any:
    """The transformers model that peft has wrapped, or `model` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def objection_to_method(model: Any, home: str) -> str | None:
    """Why an engine that never calls the model's own forward pass does not suit the method of `model`; None if it does.

    `home` is the Python module that the model's classes are of.
    """
    base = without_adapter(model)
    if base is not model:
        settings = model.active_peft_config
        if settings.is_prompt_learning:
            return "the method puts virtual tokens before the input"
        own_forward = type(model.base_model).forward is not BaseTuner.forward
        if own_forward and not isinstance(model.base_model, AdaLoraModel):  # whose own is a term of the loss
            return "the method replaces the model's forward pass"
        if getattr(settings, "alora_invocation_tokens", None):
            return "the method is told by the input which tokens it changes"
    for name, module in base.named_modules():
        if type(module).__module__ == home and (module._forward_hooks or module._forward_pre_hooks):
            return f"the method hooks into {name or 'the model'}"
    return None
