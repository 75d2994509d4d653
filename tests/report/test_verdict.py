"""The verdict says what the evidence says, and never more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.report.test_table import row
from tuneoff.report.comparison import Comparison
from tuneoff.report.costs import Cost, Quantity
from tuneoff.report.verdict import verdict
from tuneoff.score.evidence import Figures, weigh
from tuneoff.score.ratios import Ratio

COSTS: dict[Quantity, Ratio] = {
    "train_seconds": Ratio(value=1.2, low=1.15, high=1.254),
    "train_peak_bytes": Ratio(value=0.94),
}


def compared(
    levels: dict[str, float], *, seeds: int = 1, noise: float = 0.05, same: list[list[str]] | None = None, **more: Any
) -> Comparison:
    """Of arms that score `levels` on 400 examples."""
    random = np.random.default_rng(0)
    scores = random.normal(0, noise, (len(levels), seeds, 400))
    scores += np.array(list(levels.values()))[:, None, None] - scores.mean((1, 2), keepdims=True)
    methods = {"original": "none", "full": "full"}
    return Comparison(
        run="runs/x",
        metrics=["rouge1"],
        examples=400,
        references=400,
        arms=[
            row(arm, methods.get(arm, "lora"), 3_538_944 if arm == "lora" else 247_577_856, 100.0, 2e9, level)
            for arm, level in levels.items()
        ],
        evidence=weigh(
            {"rouge1": Figures(scores)},
            list(levels),
            list(range(seeds)),
            original="original" if "original" in levels else None,
            baseline="full" if "full" in levels else None,
            keep=0.97,
        ),
        costs=[
            Cost(arm=arm, baseline="full", quantity=quantity, ratio=ratio, pairs=50, disturbed=0, unlike=[])
            for arm in levels
            if arm not in methods and "full" in levels
            for quantity, ratio in COSTS.items()
        ],
        same_outputs=same or [],
        tuning=[],
        samples=[],
        signature=None,
        unfinished=[],
        warnings=[],
    )


def judged(levels: dict[str, float], **more: Any) -> str:
    """The verdict on `compared`, as one text."""
    return " ".join(verdict(compared(levels, **more)))


ALL = {"original": 0.2, "full": 0.4, "lora": 0.4}


def test_what_is_kept_at_what_cost() -> None:
    text = judged(ALL)
    assert text.startswith("lora keeps 100.0 % [")
    assert (
        "of full's ROUGE-1 at 1.4 % of the trainable parameters, 0.94× the memory of a training step "
        "and 1.20× [1.15, 1.25] the training time; "
        "shown to be within the 3 % margin (p < 0.001)." in text
    )
    assert "full gains +20.0 points [" in text
    assert "Of this gain lora has 100.0 % [" in text
    assert text.endswith("One seed: this speaks of these checkpoints, not of the methods.")


def test_what_is_not_shown_says_what_would_show_it() -> None:
    text = judged({**ALL, "lora": 0.39}, noise=0.12)
    assert "not shown to be within the 3 % margin: 400 examples could show 2.0 points, and" in text
    assert "shown to be within the 3 % margin (p" not in text


def test_less_than_asked_for_is_called_so() -> None:
    assert "it keeps less than the 97 % asked for." in judged({**ALL, "lora": 0.30})


@pytest.mark.parametrize(
    ("full", "expected"),
    [
        (0.2, "full is not shown to be better than original (+0.0 points ["),
        (0.1, "full is worse than original (-10.0 points ["),
    ],
)
def test_to_keep_what_full_did_not_gain_is_no_merit(full: float, expected: str) -> None:
    assert expected in judged({"original": 0.2, "full": full, "lora": full})


def test_an_adapter_that_does_nothing_is_called_that() -> None:
    text = judged(ALL, same=[["original", "lora"]])
    assert "lora wrote exactly what original wrote on all 400 examples: what was trained changes nothing." in text
    assert "lora keeps" not in text


def test_two_identical_arms_are_not_compared() -> None:
    text = judged(ALL, same=[["full", "lora"]])
    assert text.startswith("full and lora wrote the same on all 400 examples: there is no difference to judge.")
    assert "keeps" not in text.split(":")[0]
    assert "lora keeps" not in text


def test_without_full_fine_tuning_pairs_are_compared() -> None:
    text = judged({"original": 0.2, "lora": 0.4, "dora": 0.4})
    assert "lora differs from original by +20.0 points [" in text
    assert "dora and lora are not shown to differ in ROUGE-1 (" in text


def test_several_seeds_are_named() -> None:
    assert "Over 3 seeds; intervals hold the spread over seeds and over examples." in judged(ALL, seeds=3)


def test_one_arm_has_no_verdict() -> None:
    assert judged({"original": 0.2}) == ""


def test_of_losses_equal_texts_are_no_verdict() -> None:
    """The models differ all the same."""
    values = np.random.default_rng(0).normal(2.0, 0.1, (2, 1, 200))
    values[1] -= 0.2
    figures = {"token_loss": Figures(values, higher=False)}
    found = weigh(figures, ["original", "lora"], [0], original="original", baseline=None, keep=0.97)
    made = compared({"original": 0.2, "lora": 0.2}, same=[["original", "lora"]])
    (said, *_) = verdict(made.model_copy(update={"metrics": ["token_loss"], "evidence": found}))
    assert said.startswith("lora differs from original by -0.2") and "nats" in said and "token loss (p < 0.001)" in said


def test_of_losses_less_is_better_in_words() -> None:
    random = np.random.default_rng(0)
    levels = np.array([3.0, 1.5, 1.5, 1.8])[:, None, None]
    values = levels + random.normal(0, 0.5, 400) + random.normal(0, 0.1, (4, 1, 400))
    arms = ["original", "full", "lora", "ia3"]
    figures = {"token_loss": Figures(values, higher=False)}
    found = weigh(figures, arms, [0], original="original", baseline="full", keep=0.97)
    made = compared(dict.fromkeys(arms, 0.2)).model_copy(update={"metrics": ["token_loss"], "evidence": found})
    kept, missed, gain, *_ = verdict(made)
    assert kept.startswith("lora has ") and "of full's token loss" in kept and "within the 3.09 % margin" in kept
    assert "it has more than the 103.1 % asked for" in missed
    assert gain.startswith("full changes token loss by -1.") and "from original's. Of this gain lora has" in gain
    points = weigh(figures, arms, [0], original="original", baseline="full", keep=None, margins={"token_loss": 0.05})
    kept, missed, *_ = verdict(made.model_copy(update={"evidence": points}))
    assert "within the margin of 0.05 nats" in kept and "it loses more than the margin of 0.05 nats" in missed


def test_a_metric_that_tells_nothing_apart_gives_no_verdict() -> None:
    nothing = {"rouge1": Figures(np.zeros((2, 1, 24)))}
    found = weigh(nothing, ["original", "full"], [0], original="original", baseline="full", keep=0.97)
    made = compared({"original": 0.0, "full": 0.0}).model_copy(update={"evidence": found})
    assert verdict(made) == ["No verdict: ROUGE-1 is 0.00 for every example of every arm, and tells none apart."]
