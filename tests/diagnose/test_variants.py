"""Models with a part of an update."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.diagnose.storing import stored
from tests.diagnose.test_diagnosis import BLANK, planted
from tuneoff.diagnose.diagnosis import diagnose, layer_of
from tuneoff.diagnose.variants import set_cut, set_scaled


def test_scaled_by_nothing_and_by_one_the_weights_are_the_models_own() -> None:
    before, after = planted(5)
    subject = copy.deepcopy(after)
    for scale, model in ((0.0, before), (1.0, after)):
        set_scaled(subject, stored(before), stored(after), scale)
        assert all(torch.equal(a, b) for a, b in zip(subject.parameters(), model.parameters(), strict=True))
    set_scaled(subject, stored(before), stored(after), 0.5)
    for old, new, own in zip(before.parameters(), after.parameters(), subject.parameters(), strict=True):
        torch.testing.assert_close(own, (old + new) / 2)


def test_a_cut_is_the_truncated_singular_value_decomposition() -> None:
    before, after = planted(5)
    after.model.norm.weight.data += 0.3
    _, directions = diagnose(stored(before), stored(after), torch.float32, BLANK)
    subject = copy.deepcopy(before)
    set_cut(subject, stored(before), stored(after), directions, 3)
    trained, found = (dict(model.named_parameters()) for model in (after, subject))
    for name, weight in before.named_parameters():
        old, new, own = weight.detach(), trained[name].detach(), found[name].detach()
        if old.dim() == 2 and layer_of(name) is not None:
            kept = own - old
            assert torch.linalg.matrix_rank(kept, atol=1e-4) == 3
            lost = float(torch.linalg.matrix_norm(new - own))
            s = torch.linalg.svdvals(new - old)
            assert lost == pytest.approx(float(s[3:].square().sum().sqrt()), rel=1e-3)
        else:
            assert torch.equal(own, new)  # vectors keep all of their update, and what has none is as it was


def test_a_cut_to_the_rank_that_the_update_has_changes_nothing() -> None:
    before, after = planted(5)
    _, directions = diagnose(stored(before), stored(after), torch.float32, BLANK)
    subject = copy.deepcopy(before)
    for rank in (5, 8, 10_000):
        set_cut(subject, stored(before), stored(after), directions, rank)
        for new, own in zip(after.parameters(), subject.parameters(), strict=True):
            torch.testing.assert_close(own, new, atol=1e-6, rtol=1e-5)


def test_of_an_update_of_low_rank_all_directions_are_all_there_are() -> None:
    before, after = planted(5)
    _, directions = diagnose(stored(before), stored(after), torch.float32, BLANK)
    subject = copy.deepcopy(before)
    set_cut(subject, stored(before), stored(after), directions, 20)
    for new, own in zip(after.parameters(), subject.parameters(), strict=True):
        torch.testing.assert_close(own, new, atol=1e-6, rtol=1e-5)
