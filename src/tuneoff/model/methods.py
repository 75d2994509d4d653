"""Methods: `none`, `full`, or one of peft's. A method is a function from a model and settings to a model."""

from __future__ import annotations

import copy
import dataclasses
import re
import typing
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tuneoff.errors import ModelError, Problem, first_line, nearest
from tuneoff.model.base import ModelClass, build_model, model_class
from tuneoff.recipe.arm import RANK

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel

# peft asks every model under a name that transformers has replaced.
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)

OWN = ("none", "full")
# Fields of peft's configs that the run decides, not the recipe.
DECIDED = {
    "peft_type",
    "task_type",
    "inference_mode",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "peft_version",
}
# Methods of peft that need what a run does not give, and why each is refused.
NOT_COMPARED = {
    "cpt": "weighs its loss by kinds of tokens, which the data do not tell apart",
    "lily": "mixes its experts by a mean over all examples of a batch, so that a step's split changes its gradient",
    "multitask_prompt_tuning": "needs the number of a task with every example, which the data do not have",
    "poly": "needs the number of a task with every example, which the data do not have",
    "shadow": "trains a second model beside the first by a loss of its own",
    "xlora": "mixes adapters that were trained before, and there are none",
}
# Settings that peft takes and that need what a run does not give.
NOT_OFFERED = {
    (
        "init_lora_weights",
        name,
    ): f"must be one that starts from the weights alone; {name} starts from activations of the "
    "data, which tuneoff does not collect"
    for name in ("eva", "corda")
}
OTHER_INPUTS = ("vision", "visual", "image", "audio", "speech", "multi_modal", "mm_projector")  # names of modules
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # of AdaLoRA's rank allocator
TARGETS = "target_modules"
STEPS = 10**6  # of a training whose length is not known yet: room for any schedule of a method


def uses_peft(method: str) -> bool:
    return method not in OWN


def held_dtype(method: str, computed: torch.dtype) -> torch.dtype:
    """What the original's weights are held in for training: a base that stays frozen needs no more than it computes in.

    Full fine-tuning updates fp32 weights.
    """
    import torch

    return computed if uses_peft(method) else torch.float32


def check_method(arm: str, method: str, settings: dict[str, Any]) -> list[Problem]:
    """What is wrong with an arm's method and settings, by peft's own config class."""
    path = ("arms", arm)
    if not uses_peft(method):
        return [
            Problem((*path, key), f"no such setting of method {method!r}; it has learning_rate alone")
            for key in settings
        ]
    classes = _config_classes()
    if method not in classes:
        return [Problem((*path, "method"), f"no method {method!r}; {nearest(method, [*OWN, *classes])}")]
    if method in NOT_COMPARED:
        return [Problem((*path, "method"), f"{method} cannot be compared here: it {NOT_COMPARED[method]}")]
    fields = _settable(classes[method])
    problems = [
        Problem((*path, key), f"{classes[method].__name__} has no such setting; {nearest(key, fields)}")
        for key in settings
        if key not in fields
    ]
    for key in [key for key in settings if key in fields]:
        problem = NOT_OFFERED.get((key, str(settings[key]))) or _type_problem(fields[key], settings[key])
        if problem:
            problems.append(Problem((*path, key), f"{problem}, got {settings[key]!r}"))
    return problems


def check_params(arm: str, method: str) -> list[Problem]:
    """What is wrong with `params` of an arm: it solves the rank, which a method must have, to be known as `r`."""
    classes = _config_classes()
    if uses_peft(method) and method not in classes:
        return []  # told by `check_method`
    if method not in classes or RANK not in _settable(classes[method]):
        return [Problem(("arms", arm, "params"), f"method {method!r} has no rank `{RANK}` that could be solved for it")]
    return []


def check_applies(arm: str, method: str, settings: dict[str, Any], config: PretrainedConfig) -> list[Problem]:
    """What peft has against applying a method to this architecture: tried on the meta device, without weights.

    Target modules that the model does not have are found here, not after the arms before were trained.
    """
    if not uses_peft(method):
        return []
    import torch

    with torch.device("meta"):
        model = build_model(copy.deepcopy(config))
        try:
            adapt(model, method, settings, model_class(config), steps=STEPS)
        except ModelError as error:
            if isinstance(error.__cause__, ValueError):  # others may be the meta device's, which holds no values
                if "Target modules" in str(error) and TARGETS in settings:
                    return [Problem(("arms", arm, TARGETS), _unknown_targets(settings[TARGETS], model))]
                return [Problem(("arms", arm), str(error))]
    return []


def _unknown_targets(asked: Any, model: PreTrainedModel) -> str:
    """What is said of target modules that a model does not have: the nearest, and the names of its linear layers."""
    import torch

    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    others = {name.rpartition(".")[2] for name, _ in model.named_modules()} - linear
    names = [asked] if isinstance(asked, str) else list(asked)
    shown = ", ".join(map(repr, names))
    hints = [hint for name in names if (hint := nearest(name, linear | others)).startswith("did you mean")]
    near = f"{hints[0]} " if hints else ""
    return f"this model has no module {shown}; {near}Its linear layers are called {', '.join(sorted(linear))}"


def adapt(model: PreTrainedModel, method: str, settings: dict[str, Any], kind: ModelClass, steps: int) -> Any:
    """`model` made ready for `method`: what shall learn requires a gradient, and nothing else.

    `steps` is the number of optimizer steps to come, which some schedules need (AdaLoRA).
    Raises ModelError where peft refuses the settings or the model.
    """
    if not uses_peft(method):
        model.requires_grad_(method == "full")
        for module in _untrained(model):
            module.requires_grad_(False)
        return model
    from peft import get_peft_model

    try:
        adapted = get_peft_model(model, _peft_config(method, settings, kind, steps))
    except Exception as error:  # peft checks settings against the model in many ways of its own
        first = first_line(error)
        raise ModelError(f"peft cannot apply {method!r} to this model: {first}") from error
    for name, weight in adapted.named_parameters():
        if ".ranknum." in name:  # AdaLoRA's ranks: counts, which peft makes trainable where it casts them to fp32
            weight.requires_grad_(False)
    return adapted


def _untrained(model: PreTrainedModel) -> Iterator[torch.nn.Module]:
    """The parts of a model that full fine-tuning on text leaves as they are.

    They are tables of positions that a formula gives, and what a model of several kinds of input has for the others:
    no gradient of a text reaches it.
    """
    several_kinds = model.config.get_text_config() is not model.config
    for name, module in model.named_modules():
        formula = "Sinusoidal" in type(module).__name__
        if formula or (several_kinds and any(part in name.rpartition(".")[2] for part in OTHER_INPUTS)):
            yield module


def after_optimizer_step(model: Any, step: int) -> None:
    """What a method does after an optimizer step, while gradients are there. AdaLoRA moves its rank budget."""
    allocate = getattr(getattr(model, "base_model", None), "update_and_allocate", None)
    if allocate is not None:
        allocate(step)


def method_loss(model: Any) -> torch.Tensor | None:
    """The term that the method adds to the mean loss of a step, or None.

    AdaLoRA's keeps its triplets orthogonal (Zhang et al. 2023, equation 4): the mean over all P and Q of
    ‖PᵀP − I‖ in the Frobenius norm, times `orth_reg_weight`. peft computes it in the model's own forward pass, from
    labels that this program does not give it.
    """
    from peft import AdaLoraModel

    tuner = getattr(model, "base_model", None)
    if not isinstance(tuner, AdaLoraModel):
        return None
    import torch

    adapter = tuner.trainable_adapter_name
    products = [
        weight @ weight.T if "lora_A" in name else weight.T @ weight
        for name, weight in tuner.named_parameters()
        if ("lora_A" in name or "lora_B" in name) and adapter in name
    ]
    norms = [torch.linalg.norm(p - torch.eye(len(p), device=p.device, dtype=p.dtype)) for p in products]
    return tuner.peft_config[adapter].orth_reg_weight * torch.stack(norms).mean()


def method_state(model: Any) -> dict[str, torch.Tensor]:
    """What a method remembers between steps besides weights and buffers: AdaLoRA's averages and its rank pattern."""
    import torch

    allocator = getattr(getattr(model, "base_model", None), "rankallocator", None)
    if allocator is None:
        return {}
    state = {f"{kind}/{name}": value for kind in AVERAGES for name, value in getattr(allocator, kind).items()}
    pattern = allocator.peft_config.rank_pattern or {}
    return {**state, **{f"rank_pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}}


def load_method_state(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Put back what `method_state` returned."""
    allocator = getattr(getattr(model, "base_model", None), "rankallocator", None)
    if allocator is None:
        return
    device = next(model.parameters()).device
    pattern = {}
    for key, value in state.items():
        kind, _, name = key.partition("/")
        if kind == "rank_pattern":
            pattern[name] = value.tolist()
        else:
            getattr(allocator, kind)[name] = value.to(device)
    allocator.peft_config.rank_pattern = pattern or None


def _peft_config(method: str, settings: dict[str, Any], kind: ModelClass, steps: int) -> PeftConfig:
    cls = _config_classes()[method]
    values = {**settings, "task_type": "SEQ_2_SEQ_LM" if kind == "seq2seq" else "CAUSAL_LM"}
    if "total_step" in _settable(cls):
        values.setdefault("total_step", steps)
    return cls(**values)


def _config_classes() -> dict[str, type[PeftConfig]]:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    return {str(kind.value).lower(): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items()}


def _settable(cls: type[PeftConfig]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    names = {field.name for field in dataclasses.fields(cls) if field.init} - DECIDED
    return {name: hints[name] for name in names}


def _type_problem(annotation: Any, value: Any) -> str | None:
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # an annotation that pydantic cannot check, or a class that takes no config: peft will
        try:
            adapter = TypeAdapter(annotation)
        except Exception:
            return None
    if isinstance(value, str) and any(_matches(value, pattern) for pattern in _literals(annotation)):
        return None
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        return message[0].lower() + message[1:]
    return None


def _literals(annotation: Any) -> list[str]:
    """The strings that an annotation admits, in whatever union they stand."""
    if typing.get_origin(annotation) is typing.Literal:
        return [choice for choice in typing.get_args(annotation) if isinstance(choice, str)]
    return [literal for part in typing.get_args(annotation) for literal in _literals(part)]


def _matches(value: str, literal: str) -> bool:
    """Whether `value` is what a literal of peft means that has a number to fill in: `pissa_niter_[number of iters]`."""
    return "[" in literal and re.fullmatch(re.sub(r"\\\[.*?\\\]", r"\\d+", re.escape(literal)), value) is not None
