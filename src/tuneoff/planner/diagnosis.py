"""The time of a run's diagnosis, predicted by counting what it computes."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from tuneoff.data.inputs import Inputs
from tuneoff.data.retained import retained_rows, retained_texts
from tuneoff.data.tokens import IGNORED, Tokenization, load_tokens
from tuneoff.diagnose.spectrum import EXACT, LARGEST
from tuneoff.errors import ModelError
from tuneoff.model.base import build_model
from tuneoff.model.methods import uses_peft
from tuneoff.planner.speed import rough
from tuneoff.planner.work import Work
from tuneoff.recipe.schema import Recipe
from tuneoff.records import Range

EIGENVECTORS = 9  # FLOPs · n³ of all eigenvectors of a symmetric matrix (Golub and Van Loan 2013, section 8.3.3)


@dataclass(frozen=True)
class ScoredTokens:
    """Tokens that go through an encoder, through all other layers, and through the head: those that a loss sees."""

    read: int = 0
    written: int = 0
    scored: int = 0

    def __add__(self, other: ScoredTokens) -> ScoredTokens:
        return ScoredTokens(self.read + other.read, self.written + other.written, self.scored + other.scored)


def diagnosis_seconds(recipe: Recipe, inputs: Inputs, device: torch.device) -> Range | None:
    """Seconds of the diagnosis of all trials of a recipe, by a product and a copy in fp32 measured here.

    None where the recipe leaves it out, no arm trains, or the model cannot be built without values.
    """
    if recipe.diagnose is None or not any(arm.trains for arm in recipe.arms.values()):
        return None
    try:
        model = _blank(inputs)
    except ModelError:
        return None
    validation, retained = _validation(recipe, inputs), _retained(recipe, inputs)
    spec, seeds = recipe.diagnose, len(recipe.seeds)
    scales = 1 + sum(scale not in (0, 1) for scale in spec.scales)
    done = forward_work(model, validation + retained)  # the original model
    for arm in (arm for arm in recipe.arms.values() if arm.trains):
        cuts = len(spec.ranks) if arm.method == "full" and validation.written else 0
        losses = forward_work(model, validation + retained) * scales + forward_work(model, validation) * cuts
        done = done + (losses + _decomposed(model, low_rank=uses_peft(arm.method))) * seeds
    return rough(torch.float32, device).seconds(done)


def _blank(inputs: Inputs) -> torch.nn.Module:
    with torch.device("meta"):
        model: torch.nn.Module = build_model(copy.deepcopy(inputs.config))
    return model


def _validation(recipe: Recipe, inputs: Inputs) -> ScoredTokens:
    assert recipe.diagnose is not None
    folder = inputs.tokens.get("validation") if recipe.evaluation.split != "validation" else None
    rows = load_tokens(folder) if folder else []
    return _counted(inputs, [rows[n] for n in range(min(recipe.diagnose.examples, len(rows)))])


def _retained(recipe: Recipe, inputs: Inputs) -> ScoredTokens:
    source = recipe.evaluation.retain
    tokenization = Tokenization.of(recipe, inputs.tokenizer, inputs.model_class, inputs.chat)
    return _counted(inputs, retained_rows(retained_texts(source), source, inputs.tokenizer, tokenization).rows)


def _counted(inputs: Inputs, rows: list[dict[str, list[int]]]) -> ScoredTokens:
    read, targets = (sum(len(row[name]) for row in rows) for name in ("input_ids", "labels"))
    if inputs.model_class == "causal":
        return ScoredTokens(0, read, sum(label != IGNORED for row in rows for label in row["labels"]))
    return ScoredTokens(read, targets, targets)


def forward_work(model: torch.nn.Module, tokens: ScoredTokens) -> Work:
    """The products of weights with tokens: two FLOPs a weight and token. Attention's own are few on short texts."""
    input_embeddings, output = model.get_input_embeddings().weight, model.get_output_embeddings()
    sizes = {True: 0, False: 0}  # of the encoder, and of all else
    for name, weight in model.named_parameters():
        if weight is not input_embeddings and (output is None or weight is not output.weight):
            sizes["encoder" in name.split(".")[:2]] += weight.numel()
    head = output.weight.numel() if output is not None else 0
    return Work(flops=2.0 * (sizes[True] * tokens.read + sizes[False] * tokens.written + head * tokens.scored))


def _decomposed(model: torch.nn.Module, *, low_rank: bool) -> Work:
    """The spectra of all matrices of layers, and of embeddings where they are trained; and the count of intruders."""
    flops = 0.0
    for weight in (weight for weight in model.parameters() if weight.dim() >= 2):
        count = weight.shape[0] if weight.dim() == 3 else 1
        short, long = sorted(weight.shape[-2:])
        few = low_rank or short > EXACT
        update = 8.0 * LARGEST * short * long if few else _eigenvectors(short, long)
        flops += count * (update + (2 * _eigenvectors(short, long) if short <= EXACT else 0.0))
    return Work(flops=flops)


def _eigenvectors(short: int, long: int) -> float:
    """Of a Gram matrix, with what makes it."""
    return 2.0 * short**2 * long + EIGENVECTORS * short**3
