"""The verdict says what the evidence says, and never more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.report.test_table import row
from tuneoff.report.comparison import Comparison
from tuneoff.report.costs import Cost, Quantity
from tuneoff.report.course import Course
from tuneoff.report.kept_table import kept_note, kept_rows
from tuneoff.report.runs import RunArms
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

    def _if(arm: str) -> str | None:
        return arm if arm in levels else None

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
            original=_if("original"),
            baseline=_if("full"),
            keep=0.97,
        ),
        costs=[
            Cost(arm=arm, baseline="full", quantity=quantity, ratio=ratio, pairs=50, disturbed=0, unlike=[])
            for arm in levels
            if arm not in methods and "full" in levels
            for quantity, ratio in COSTS.items()
        ],
        runs=[RunArms(run="x", arms=list(levels), original=_if("original"), baseline=_if("full"))],
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


def test_the_first_sentence_is_whether_training_helped() -> None:
    first, kept, gained, last = verdict(compared(ALL))
    assert first.startswith("Training helped: ROUGE-1 rose from 20.0 (original) to 40.0 with full (+20.0 points [")
    assert "p < 0.001) and 40.0 with lora (+20.0 points [" in first
    assert kept.startswith("lora keeps 100.0 % [")
    assert (
        "of full's ROUGE-1 at 1.4 % of the trainable parameters, 0.94× the memory of a training step "
        "and 1.20× [1.15, 1.25] the training time; shown to be within the 3 % margin (one-sided test of "
        "non-inferiority, p < 0.001)." in kept
    )
    assert gained.startswith("Of what full gained over original, lora has 100.0 % [")
    assert last == "One seed: this compares these checkpoints, not the methods in general."


def test_what_is_not_shown_says_what_would_show_it() -> None:
    text = judged({**ALL, "lora": 0.39}, noise=0.12)
    assert "not shown to be within the 3 % margin (one-sided test of non-inferiority, p = " in text
    assert ": with 400 examples only a loss above 2.0 points can be ruled out; for this margin about " in text
    assert "; shown to be within" not in text


def test_less_than_asked_for_is_called_so() -> None:
    assert "it keeps less than the 97 % asked for." in judged({**ALL, "lora": 0.30})


@pytest.mark.parametrize(
    ("levels", "first"),
    [
        (
            {"original": 0.2, "full": 0.2, "lora": 0.2},
            "Training did not help: by ROUGE-1, full is not shown to be better (+0.0 points [",
        ),
        (
            {"original": 0.2, "full": 0.1, "lora": 0.1},
            "Training did not help: by ROUGE-1, full is worse (-10.0 points [",
        ),
        (
            {"original": 0.2, "full": 0.1, "lora": 0.4},
            "Training helped lora: ROUGE-1 rose from 20.0 (original) to 40.0",
        ),
    ],
)
def test_no_arm_is_praised_for_keeping_what_full_did_not_gain(levels: dict[str, float], first: str) -> None:
    said = verdict(compared(levels))
    assert said[0].startswith(first)
    assert not any(praise in sentence for sentence in said for praise in ("keeps", "margin", "gained over"))


def test_an_arm_that_is_worse_than_the_original_is_named_beside_those_that_are_better() -> None:
    (first, *rest) = verdict(compared({"original": 0.2, "full": 0.1, "lora": 0.4}))
    assert "; full is worse than original (-10.0 points [" in first
    assert any(sentence.startswith("lora is better than full in ROUGE-1: +30.0 points [") for sentence in rest)
    assert any("It takes 1.4 % of the trainable parameters" in sentence for sentence in rest)


@pytest.mark.parametrize(
    ("course", "said"),
    [
        (
            Course(learning_rate=1e-2, steps=100, first_loss=2.0, last_loss=7.5),
            "lora: its training loss rose from 2.000 to 7.500 over 100 steps: the learning rate 0.01 may be too high.",
        ),
        (Course(learning_rate=1e-2, diverged=True), "lora: its training diverged: a loss is no number. Try less than"),
        (
            Course(learning_rate=1e-6, steps=100, first_loss=2.0, last_loss=1.99),
            "hardly changed, from 2.000 to 1.990 over 100 steps: the learning rate 1e-06 may be too low.",
        ),
        (
            Course(steps=100, first_loss=5.0, before_last_loss=3.0, last_loss=2.5),
            "was still falling at the end (from 3.000 to 2.500 in the last quarter of 100 steps): more steps may help.",
        ),
        (
            Course(best_validation=2.5, best_step=60, last_validation=2.75),
            "its validation loss rose from 2.500 at step 60 to 2.750: it overfits",
        ),
        (Course(outputs=400, truncated=100), "100 of its 400 outputs were cut off: `evaluation.max_new_tokens` may be"),
        (Course(outputs=400, wordless=100), "100 of its 400 outputs share no word with their references"),
        (
            Course(first_loss=5.0, before_last_loss=2.51, last_loss=2.5, outputs=400, truncated=80, wordless=80),
            "lora: its history shows no reason; its training loss fell from 5.000 to 2.500.",
        ),
    ],
)
def test_why_training_did_not_help_as_far_as_it_shows(course: Course, said: str) -> None:
    made = compared({"original": 0.2, "lora": 0.1})
    arms = [one.model_copy(update={"course": course}) if one.arm == "lora" else one for one in made.arms]
    sentences = verdict(made.model_copy(update={"arms": arms}))
    assert said in sentences[1]
    good = compared({"original": 0.2, "lora": 0.4})
    arms = [one.model_copy(update={"course": course}) if one.arm == "lora" else one for one in good.arms]
    assert said not in " ".join(verdict(good.model_copy(update={"arms": arms})))


def test_many_arms_are_named_by_the_best_and_the_least() -> None:
    levels = {"original": 0.2, "full": 0.4, "r1": 0.38, "r4": 0.41, "r16": 0.39}
    first = verdict(compared(levels))[0]
    assert first.startswith(
        "Training helped: ROUGE-1 rose from 20.0 (original) to at best 41.0 with r4 (+21.0 points ["
    )
    assert "and at least 38.0 with r1 (+18.0 points [" in first and first.endswith("in 4 arms.")


@pytest.mark.parametrize(
    ("dora", "said"),
    [
        (0.46, "dora has the best ROUGE-1, 46.0: it is shown to be better than each other arm."),
        (0.401, "No arm is shown to be the best: dora has the best ROUGE-1, 40.1, but full and lora may equal it."),
    ],
)
def test_whether_an_arm_is_clearly_best(dora: float, said: str) -> None:
    assert said in verdict(compared({**ALL, "dora": dora}))


def test_the_other_metrics_are_told_with_the_judged_one() -> None:
    random = np.random.default_rng(0)
    clear = np.array([0.2, 0.4, 0.4])[:, None, None] + random.normal(0, 0.02, (3, 1, 400))
    vague = np.array([0.1, 0.2, 0.19])[:, None, None] + random.normal(0, 0.2, (3, 1, 400))
    figures = {"rouge1": Figures(clear), "rouge2": Figures(vague), "rougeL": Figures(clear)}
    found = weigh(figures, list(ALL), [0], original="original", baseline="full", keep=0.97)
    made = compared(ALL).model_copy(update={"metrics": ["rouge1", "rouge2", "rougeL"], "evidence": found})
    (kept,) = (sentence for sentence in verdict(made) if sentence.startswith("lora keeps"))
    assert "The same holds by ROUGE-L (p < 0.001). It is not shown by ROUGE-2 (p = " in kept
    rows = kept_rows(found)
    assert rows[0][:3] == ["lora", "full", "ROUGE-1"]
    assert [row[6] for row in rows] == ["yes", "no", "yes"]
    assert "by a one-sided test of non-inferiority (bootstrap over examples; p adjusted" in kept_note(found)


def test_an_adapter_that_does_nothing_is_called_that() -> None:
    text = judged(ALL, same=[["original", "lora"]])
    assert "lora wrote exactly what original wrote on all 400 examples: training changed nothing." in text
    assert "lora keeps" not in text
    assert text.startswith("Training helped: ROUGE-1 rose from 20.0 (original) to 40.0 with full (")


def test_models_that_were_not_trained_and_write_the_same_are_no_news() -> None:
    made = compared({"original": 0.2, "full": 0.4}, same=[["original", "other"]])
    assert "wrote" not in " ".join(verdict(made))


def test_two_identical_arms_are_not_compared() -> None:
    text = judged(ALL, same=[["full", "lora"]])
    assert "full and lora wrote the same on all 400 examples: there is no difference to judge." in text
    assert "lora keeps" not in text


def test_without_full_fine_tuning_pairs_are_compared() -> None:
    text = judged({"original": 0.2, "lora": 0.4, "dora": 0.4})
    assert text.startswith("Training helped: ROUGE-1 rose from 20.0 (original) to 40.0 with lora (+20.0 points [")
    assert "dora and lora are not shown to differ in ROUGE-1: " in text
    assert "(two-sided test, p = " in text and "would be found in 80 % of cases)." in text


def test_without_an_original_pairs_are_judged_all_the_same() -> None:
    text = judged({"full": 0.4, "lora": 0.4})
    assert text.startswith("lora keeps 100.0 % [")
    assert "gained" not in text


def test_where_nothing_varies_nothing_is_said_of_power() -> None:
    """Every example of an arm has its one score: no difference is too small to be found, and none is told."""
    flat = {"rouge1": Figures(np.array([0.2, 0.4, 0.4])[:, None, None] * np.ones((3, 1, 24)))}
    found = weigh(flat, list(ALL), [0], original="original", baseline="full", keep=0.97)
    text = " ".join(verdict(compared(ALL).model_copy(update={"evidence": found})))
    assert "0.0 points would" not in text and "ruled out" not in text and "80 %" not in text


def test_several_seeds_are_named() -> None:
    assert "Over 3 seeds: the intervals include the spread over seeds and over examples." in judged(ALL, seeds=3)


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
    assert said.startswith("Training helped: token loss fell from 2.0")
    assert "with lora (-0.2" in said and "nats" in said and "p < 0.001)." in said


def test_of_losses_less_is_better_in_words() -> None:
    random = np.random.default_rng(0)
    levels = np.array([3.0, 1.5, 1.5, 1.8])[:, None, None]
    values = levels + random.normal(0, 0.5, 400) + random.normal(0, 0.1, (4, 1, 400))
    arms = ["original", "full", "lora", "ia3"]
    figures = {"token_loss": Figures(values, higher=False)}
    found = weigh(figures, arms, [0], original="original", baseline="full", keep=0.97)
    made = compared(dict.fromkeys(arms, 0.2)).model_copy(update={"metrics": ["token_loss"], "evidence": found})
    helped, kept, missed, gained, pair, *_ = verdict(made)
    assert helped.startswith("Training helped: token loss fell from 2.98")
    assert kept.startswith("lora has ") and "of full's token loss" in kept and "within the 3.09 % margin" in kept
    assert "it has more than the 103.1 % asked for" in missed
    assert gained.startswith("Of what full gained over original, lora has ") and "ia3 has " in gained
    assert pair.startswith("lora is better than ia3 in token loss: -0.28")
    points = weigh(figures, arms, [0], original="original", baseline="full", keep=None, margins={"token_loss": 0.05})
    _, kept, missed, *_ = verdict(made.model_copy(update={"evidence": points}))
    assert "within the margin of 0.05 nats" in kept and "it loses more than the margin of 0.05 nats" in missed


def test_a_metric_that_tells_nothing_apart_gives_no_verdict() -> None:
    nothing = {"rouge1": Figures(np.zeros((2, 1, 24)))}
    found = weigh(nothing, ["original", "full"], [0], original="original", baseline="full", keep=0.97)
    made = compared({"original": 0.0, "full": 0.0}).model_copy(update={"evidence": found})
    assert verdict(made) == ["No verdict: ROUGE-1 is 0.00 for every example of every arm, and tells none apart."]
