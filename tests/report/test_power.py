"""What a test set can show, before a run."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import norm

from tests.cli.test_main import invoke
from tests.report.made import made_run
from tuneoff.errors import MetricError, RunFolderError
from tuneoff.recipe import Recipe, load_recipe
from tuneoff.report.comparison import compare
from tuneoff.report.power import Power, power_of, print_power


def recipe(*changes: str) -> Recipe:
    return load_recipe("demo-small", list(changes)).recipe


def test_the_figures_are_those_of_the_normal_approximation() -> None:
    found = power_of(recipe(), "typical", 357)
    at = {row.examples: row for row in found.rows}
    by_power = norm.ppf(0.8)
    assert at[357].detectable == pytest.approx((norm.ppf(1 - 0.05 / 2 / 3) + by_power) * 0.122 / 357**0.5)
    assert at[357].provable == pytest.approx((norm.ppf(0.95) + by_power) * 0.122 / 357**0.5)
    assert found.margin == pytest.approx(0.03 * 0.437)
    assert found.needed == int(np.ceil(((norm.ppf(0.95) + by_power) * 0.122 / found.margin) ** 2))


def test_so_many_examples_show_the_margin_in_four_of_five_cases() -> None:
    found = power_of(recipe(), "typical", None)
    assert found.needed is not None
    differences = np.random.default_rng(0).normal(0, found.deviation, (4000, found.needed))
    errors = differences.std(1, ddof=1) / found.needed**0.5
    shown = (differences.mean(1) + found.margin) / errors > norm.ppf(0.95)
    assert shown.mean() == pytest.approx(0.8, abs=0.02)


def test_a_finished_run_gives_its_own_spread(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    found = power_of(recipe(), str(folder.path), 60)
    _, arms = compare(folder)
    scores = {a.name: np.array([np.mean(p.scores["rouge1"]) for p in a.predictions[0]]) for a in arms}
    assert found.deviation == pytest.approx((scores["full"] - scores["lora"]).std(ddof=1))
    assert found.mean == pytest.approx(scores["full"].mean())
    assert found.source.endswith("on 60 examples (full and lora)")


def test_the_recipe_s_margin_and_number_of_tests_count() -> None:
    points = power_of(recipe("evaluation.keep={points: 2}"), "typical", None)
    assert points.margin == pytest.approx(0.02)
    more = "arms.dora={method: lora, learning_rate: 1e-3, r: 8, use_dora: true}"
    family = power_of(recipe(more), "typical", None)
    assert family.rows[0].detectable > points.rows[0].detectable  # six pairs in place of three
    assert family.rows[0].provable > points.rows[0].provable


def test_what_is_not_known_is_told(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="no typical spread of chrF is known, only of ROUGE-1"):
        power_of(recipe("evaluation.metrics=[chrf]"), "typical", None)
    with pytest.raises(MetricError, match=r"is not scored by chrF: `tuneoff score .* --metric chrf` adds it"):
        power_of(recipe("evaluation.metrics=[chrf]"), str(made_run(tmp_path / "run").path), None)
    with pytest.raises(RunFolderError, match="holds no run"):
        power_of(recipe(), str(tmp_path), None)


def test_on_the_terminal_the_recipe_s_own_number_is_marked() -> None:
    text = invoke("plan", "demo-small", "--power", "typical")
    assert "this recipe: 357                2.1 points" in text
    assert "needs 536 dialogues" in " ".join(text.split())
    assert "dialogues of one 'scene' depend on each other" in " ".join(text.split())
    stream = io.StringIO()
    print_power(power_of(recipe(), "typical", 357), recipe(), Console(file=stream, width=80))
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    found = Power.model_validate_json(invoke("plan", "demo-small", "--power", "typical", "--json"))
    assert (found.own, found.metric) == (357, "rouge1")
