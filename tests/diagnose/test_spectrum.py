"""Planted updates, whose spectrum is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneoff.diagnose import spectrum as own
from tuneoff.diagnose.spectrum import intruders, left_vectors, shared, spectrum

SHAPES = [(40, 64), (64, 40), (50, 50)]


def low_rank(rows: int, columns: int, values: list[float], seed: int) -> torch.Tensor:
    """A matrix with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64))
    return ((left * torch.tensor(values, dtype=torch.float64)) @ right.T).float()


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_values_have_their_number_as_rank(shape: tuple[int, int]) -> None:
    found = spectrum(low_rank(*shape, [0.5] * 5, seed=1))
    assert found.stable_rank == pytest.approx(5, rel=1e-5)
    assert found.entropy_rank == pytest.approx(5, rel=1e-5)
    assert (found.rank_of(0.5), found.rank_of(0.9)) == (3, 5)
    assert found.energy(2) == pytest.approx(0.4, rel=1e-5)
    assert found.energy(64) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    values=st.lists(st.floats(0.01, 10), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_all_figures_are_those_of_the_singular_values(shape: tuple[int, int], values: list[float], seed: int) -> None:
    update = low_rank(*shape, values, seed)
    squares = torch.linalg.svdvals(update.double()).square()
    found = spectrum(update)
    assert found.squared_norm == pytest.approx(float(squares.sum()), rel=1e-9)
    assert found.stable_rank == pytest.approx(float(squares.sum() / squares[0]), rel=1e-5)
    p = squares / squares.sum()
    assert found.entropy_rank == pytest.approx(float(torch.exp(-(p * p.log()).nan_to_num().sum())), rel=1e-4)
    for rank in (1, 3, 12):
        assert found.energy(rank) == pytest.approx(float(squares[:rank].sum() / squares.sum()), rel=1e-5)
    held = squares.cumsum(0) / squares.sum()
    assert float(held[found.rank_of(0.9) - 1]) >= 0.9 - 1e-6
    assert found.rank_of(0.9) == 1 or float(held[found.rank_of(0.9) - 2]) < 0.9 + 1e-6


def test_an_update_of_low_rank_is_found_without_all_values_and_one_of_full_rank_with_them() -> None:
    low = low_rank(300, 260, [0.9**n for n in range(40)], seed=5)
    found = spectrum(low, keep=40)
    assert len(found.values) == own.SKETCH
    squares = torch.linalg.svdvals(low.double()).square()
    assert found.stable_rank == pytest.approx(float(squares.sum() / squares[0]), rel=1e-5)
    for rank in (1, 8, 32):
        assert found.energy(rank) == pytest.approx(float(squares[:rank].sum() / squares.sum()), rel=1e-5)
    kept = found.strongest[:, :8]
    lost = low - kept @ (kept.T @ low)
    assert float(lost.square().sum()) == pytest.approx(float(squares[8:].sum()), rel=1e-4)
    noisy = low + 1e-3 * low.std() * torch.randn(300, 260, generator=torch.Generator().manual_seed(0))
    assert len(spectrum(noisy).values) == 260


def test_a_large_matrix_has_its_largest_values_without_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    update = low_rank(60, 70, [2.0**-n for n in range(12)], seed=3)
    exact = spectrum(update)
    monkeypatch.setattr(own, "EXACT", 10)
    monkeypatch.setattr(own, "LARGEST", 16)
    state = torch.get_rng_state()
    found = spectrum(update)
    assert torch.equal(state, torch.get_rng_state())  # nobody's random numbers are used up
    assert torch.allclose(found.values[:12].square(), exact.values[:12].square(), rtol=1e-4, atol=1e-6)
    assert found.rank_of(0.9) == exact.rank_of(0.9)
    assert shared(found.strongest[:, :4], exact.strongest[:, :4]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_left_vectors_are_those_of_the_decomposition(shape: tuple[int, int]) -> None:
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values, left = left_vectors(matrix)
    theirs, reference, _ = torch.linalg.svd(matrix, full_matrices=False)[1], *torch.linalg.svd(matrix)[::2]
    assert torch.allclose(values, theirs)
    cosines = (left.T @ reference[:, : len(values)]).abs().diagonal()
    assert torch.allclose(cosines, torch.ones_like(cosines), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_planted_intruder_is_found_and_none_without(shape: tuple[int, int]) -> None:
    rows, columns = shape
    base = torch.randn(rows, columns, generator=torch.Generator().manual_seed(5))
    strongest = float(torch.linalg.svdvals(base)[0])
    # Along no vector of the base more than along others: a cosine of 1 / √40 with each.
    count = min(shape)
    left = left_vectors(base.double())[1]
    stranger = (left @ torch.ones(count, dtype=torch.float64) / count**0.5).float()
    right = torch.nn.functional.normalize(torch.randn(columns, generator=torch.Generator().manual_seed(6)), dim=0)
    planted = 3 * strongest * torch.outer(stranger, right)
    vectors = left.to(torch.float16)  # as they are kept
    assert intruders(vectors, base + planted) == 1
    assert intruders(vectors, base + 1e-3 * planted) == 0
    assert intruders(vectors, 1.3 * base) == 0


def test_directions_at_random_share_their_number_over_the_rows() -> None:
    generator = torch.Generator().manual_seed(7)
    found = []
    for _ in range(60):
        one, other = (torch.linalg.qr(torch.randn(48, 6, generator=generator))[0] for _ in range(2))
        found.append(shared(one, other))
    assert sum(found) / len(found) == pytest.approx(6 / 48, rel=0.1)
    assert shared(one, one[:, [3, 1, 0, 2, 5, 4]]) == pytest.approx(1, abs=1e-6)
