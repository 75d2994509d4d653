"""Models with planted updates."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.diagnose.storing import stored
from tests.diagnose.test_spectrum import low_rank
from tests.model.engines import families, test_t5
from tuneoff.diagnose.diagnosis import diagnose, kind_of, layer_of
from tuneoff.diagnose.variants import set_cut
from tuneoff.records import Diagnosis

BLANK = Diagnosis(arm="full", seed=0)


def planted(rank: int, size: float = 0.1) -> tuple[Any, Any]:
    """A Llama and the same with an update of `rank` in each matrix of its layers, of equal singular values."""
    before: Any = families.build("llama", 1)
    after = copy.deepcopy(before)
    for n, (name, weight) in enumerate(after.named_parameters()):
        if weight.dim() == 2 and layer_of(name) is not None:
            weight.data += low_rank(*weight.shape, [size] * rank, seed=n)
    return before, after


def test_a_planted_rank_is_found_in_every_matrix() -> None:
    before, after = planted(5)
    found, directions = diagnose(stored(before), stored(after), torch.float32, BLANK)
    assert found.refused is None and found.floor is not None and found.floor < 1e-3
    changed = [name for name, w in after.named_parameters() if w.dim() == 2 and layer_of(name) is not None]
    assert [matrix.name for matrix in found.modules] == changed == list(directions)
    for matrix in found.modules:
        assert matrix.rank90 == 5 and matrix.stable_rank == pytest.approx(5, rel=1e-2)
        assert matrix.energy[4] == pytest.approx(0.8, abs=1e-2) and matrix.energy[8] == pytest.approx(1, abs=1e-4)
        weight = dict(before.named_parameters())[matrix.name]
        assert matrix.relative_norm == pytest.approx(0.1 * 5**0.5 / float(weight.detach().norm()), rel=1e-3)
    assert sum(matrix.share for matrix in found.modules) == pytest.approx(1)
    assert found.vectors == 0 and found.unchanged == 1  # the embeddings, which are the output layer, too


def test_an_update_below_the_rounding_of_its_file_is_refused() -> None:
    before, after = planted(5, size=1e-4)
    before, after = before.to(torch.bfloat16).float(), after.to(torch.bfloat16).float()
    found, _ = diagnose(stored(before), stored(after), torch.bfloat16, BLANK)
    assert found.modules == [] and found.floor is not None and found.floor > 0.1
    assert found.refused is not None and "stored in bfloat16, and its rounding is" in found.refused
    exact = diagnose(*map(stored, planted(5, size=1e-4)), torch.float32, BLANK)[0]
    assert exact.refused is None and {matrix.rank90 for matrix in exact.modules} == {5}


def test_the_floor_is_that_of_rounding() -> None:
    torch.manual_seed(8)
    before: Any = families.build("llama", 2)
    after = copy.deepcopy(before)
    for weight in after.parameters():
        weight.data = torch.randn_like(weight).exp()
    rounded = copy.deepcopy(after).to(torch.bfloat16).float()
    error = sum(
        float((a - b).double().square().sum()) for a, b in zip(after.parameters(), rounded.parameters(), strict=True)
    )
    update = sum(
        float((a - b).double().square().sum()) for a, b in zip(rounded.parameters(), before.parameters(), strict=True)
    )
    found, _ = diagnose(stored(before), stored(rounded), torch.bfloat16, BLANK)
    assert found.floor == pytest.approx((error / update) ** 0.5, rel=0.05)


def test_vectors_are_counted_and_nothing_changed_is_said() -> None:
    before: Any = families.build("llama", 3)
    after = copy.deepcopy(before)
    after.model.norm.weight.data += 0.5
    found, _ = diagnose(stored(before), stored(after), torch.float32, BLANK)
    assert found.vectors == pytest.approx(1) and found.modules == []
    same, _ = diagnose(stored(before), stored(copy.deepcopy(before)), torch.float32, BLANK)
    assert same.refused == "no weight of the model has changed"


def test_the_overlap_of_equal_and_of_unlike_updates() -> None:
    before, after = planted(4)
    _, directions = diagnose(stored(before), stored(after), torch.float32, BLANK)
    same, _ = diagnose(stored(before), stored(after), torch.float32, BLANK, against=directions)
    for matrix in same.modules:
        assert matrix.overlap is not None and matrix.overlap.directions == 4
        assert matrix.overlap.value == pytest.approx(1, abs=1e-3)
        assert matrix.overlap.random == pytest.approx(4 / matrix.shape[0])
    other = copy.deepcopy(before)
    for n, (name, weight) in enumerate(other.named_parameters()):
        if weight.dim() == 2 and layer_of(name) is not None:
            weight.data += low_rank(*weight.shape, [0.1] * 4, seed=1000 + n)
    unlike, _ = diagnose(stored(before), stored(other), torch.float32, BLANK, against=directions)
    overlaps = [matrix.overlap for matrix in unlike.modules if matrix.overlap is not None]
    values, chance = sum(o.value for o in overlaps), sum(o.random for o in overlaps)
    assert values == pytest.approx(chance, rel=0.3)


class Experts(torch.nn.Module):
    """Three experts whose matrices lie in one parameter, as transformers has them, and a router."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        layer, layer.mlp, layer.mlp.experts = (torch.nn.Module() for _ in range(3))
        layer.mlp.experts.down_proj = torch.nn.Parameter(torch.randn(3, 24, 16, generator=generator))
        layer.mlp.gate = torch.nn.Linear(16, 3)
        self.layers = torch.nn.ModuleList([layer])


def test_each_expert_of_a_parameter_is_a_matrix_of_its_own() -> None:
    before: Any = Experts()
    after = copy.deepcopy(before)
    name = "layers.0.mlp.experts.down_proj"
    for n, rank in ((0, 2), (2, 6)):
        after.get_parameter(name).data[n] += low_rank(24, 16, [0.1] * rank, seed=n)
    found, directions = diagnose(stored(before), stored(after), torch.float32, BLANK)
    assert [(m.name, m.kind, m.layer, m.shape, m.rank90) for m in found.modules] == [
        (f"{name}[0]", "down", "0", (24, 16), 2), (f"{name}[2]", "down", "0", (24, 16), 6),
    ]  # fmt: skip
    assert found.unchanged == 2 and found.vectors == 0  # the other expert and the router
    assert [m.share for m in found.modules] == pytest.approx([0.25, 0.75], rel=1e-3)
    set_cut(before, stored(before), stored(after), directions, 3)
    cut, whole = (model.get_parameter(name) for model in (before, after))
    torch.testing.assert_close(cut[:2], whole[:2], atol=1e-5, rtol=1e-5)
    lost = float((whole[2] - cut[2]).square().sum())
    assert lost == pytest.approx(3 * 0.1**2, rel=1e-3)


def test_the_original_s_vectors_are_computed_once_for_all_of_its_models() -> None:
    before, after = planted(5)
    bases: dict[str, torch.Tensor] = {}
    first, _ = diagnose(stored(before), stored(after), torch.float32, BLANK, bases=bases)
    assert list(bases) == [m.name for m in first.modules]
    bases.update({name: torch.zeros_like(vectors) for name, vectors in bases.items()})  # like no direction there is
    again, _ = diagnose(stored(before), stored(after), torch.float32, BLANK, bases=bases)
    assert {m.intruders for m in again.modules} == {10}
    assert sum(m.intruders or 0 for m in first.modules) < 10 * len(first.modules)


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("model.layers.3.self_attn.q_proj.weight", "q", "3"),
        ("model.layers.12.mlp.down_proj.weight", "down", "12"),
        ("encoder.block.1.layer.0.SelfAttention.o.weight", "o", "encoder 1"),
        ("decoder.block.0.layer.2.DenseReluDense.wi_1.weight", "up", "decoder 0"),
        ("shared.weight", "embeddings", None),
        ("model.norm.weight", "norm", None),
    ],
)
def test_names_tell_kind_and_layer(name: str, kind: str, layer: str | None) -> None:
    assert (kind_of(name), layer_of(name)) == (kind, layer)


def test_a_t5_has_every_matrix_in_a_layer_but_those_outside() -> None:
    model = test_t5.build(1)
    outside = {kind_of(name) for name, w in model.named_parameters() if w.dim() == 2 and layer_of(name) is None}
    assert outside <= {"embeddings", "head"}
