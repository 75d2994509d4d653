"""The time of a diagnosis, predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.model.engines import families, test_t5
from tests.planner.test_planner import CPU, begin
from tuneoff.planner import diagnosis
from tuneoff.planner.diagnosis import ScoredTokens, diagnosis_seconds, forward_work
from tuneoff.planner.speed import Speed
from tuneoff.recipe.diagnose import DiagnoseSpec


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_the_work_of_a_pass_is_that_of_its_products(kind: str, tied: bool) -> None:
    model: Any = test_t5.build(1, tie_word_embeddings=tied) if kind == "seq2seq" else families.build("llama", 1)
    if kind == "causal" and not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    ids, labels = torch.ones(2, 9, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    attention: Any = {"attn_implementation": "eager"}
    model.set_attn_implementation(**attention)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(input_ids=ids, **({"labels": labels} if kind == "seq2seq" else {}))
    found = counter.get_flop_counts()["Global"]
    products = found[torch.ops.aten.mm] + found.get(torch.ops.aten.addmm, 0)  # attention's are bmm
    tokens = ScoredTokens(18, 8, 8) if kind == "seq2seq" else ScoredTokens(0, 18, 18)
    if kind == "seq2seq":  # the decoder's keys and values of the inputs are counted as its own tokens are
        cross = sum(w.numel() for name, w in model.named_parameters() if "EncDecAttention" in name and name[-8] in "kv")
        products -= 2 * cross * (18 - 8)
    assert forward_work(model, tokens).flops == pytest.approx(products, rel=0.03)  # norms are no products


def test_it_is_all_that_the_recipe_asks_for(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "rough", lambda *_: Speed(flop=1.0, byte=0.0, call=0.0, spread=1.0, source=""))
    recipe, inputs = begin(data_folder)

    def work(spec: DiagnoseSpec | None, **changes: Any) -> float:
        found = diagnosis_seconds(recipe.model_copy(update={"diagnose": spec, **changes}), inputs, CPU)
        return 0.0 if found is None else found.value

    bare = DiagnoseSpec(ranks=[], scales=[], examples=2)
    base = work(bare)
    scaled = work(bare.model_copy(update={"scales": [0.5, 1.0]})) - base
    assert work(bare.model_copy(update={"scales": [0.5, 0.75]})) - base == pytest.approx(2 * scaled)
    cut = work(bare.model_copy(update={"ranks": [2, 3]})) - base
    assert 0 < cut < scaled  # full's alone, and on no texts
    lora = {name: arm for name, arm in recipe.arms.items() if name != "full"}
    assert work(bare.model_copy(update={"ranks": [2, 3]}), arms=lora) == work(bare, arms=lora) < base
    original = scaled / 2  # the original's losses are computed once for all seeds
    assert work(bare, seeds=[0, 1]) - original == pytest.approx(2 * (base - original))
    assert work(bare.model_copy(update={"examples": 3})) > base
    assert work(None) == 0.0 and work(bare, arms={"original": recipe.arms["original"]}) == 0.0
