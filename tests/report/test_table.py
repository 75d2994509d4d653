from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tuneoff.folder import RunFolder
from tuneoff.recipe import Words
from tuneoff.records import Parameters
from tuneoff.report.comparison import Comparison, Sample
from tuneoff.report.costs import Cost
from tuneoff.report.rows import ArmRow
from tuneoff.report.runs import RunArms
from tuneoff.report.table import notes, print_comparison
from tuneoff.score.evidence import Evidence, Figures, weigh
from tuneoff.score.ratios import Ratio
from tuneoff.units import bytes_text, count_text, duration_text

GOLDEN = Path(__file__).with_name("table.txt")


def row(arm: str, method: str, trainable: int, seconds: float | None, peak: float | None, rouge1: float) -> ArmRow:
    return ArmRow(
        arm=arm, method=method, seeds=[0], parameters=Parameters(trainable=trainable, total=251_116_800),
        train_seconds=seconds, total_seconds=900.0, train_peak_bytes=peak, generate_peak_bytes=1.5 * 2**30,
        scores={"rouge1": rouge1, "rouge2": rouge1 / 2, "rougeL": rouge1 / 1.25},
        length_ratio=1.0, empty_outputs=0, truncated_outputs=3 if method == "none" else 0, failures=[],
    )  # fmt: skip


def evidence(lora: float = 0.408) -> Evidence:
    """Of 500 dialogues on which the original scores 0.23, full 0.42 and LoRA `lora`."""
    random = np.random.default_rng(0)
    levels = np.array([0.2334, 0.4216, lora])[:, None, None]
    scores = levels + random.normal(0, 0.1, (3, 1, 500))
    return weigh(
        {"rouge1": Figures(scores - scores.mean(2, keepdims=True) + levels)},
        ["original", "full", "a-rather-long-name-of-an-arm"],
        [0],
        original="original",
        baseline="full",
        keep=0.97,
    )


COMPARISON = Comparison(
    run="runs/x",
    words=Words(example="dialogue", output="summary"),
    metrics=["rouge1", "rouge2", "rougeL"],
    examples=500,
    references=1500,
    arms=[
        row("original", "none", 0, None, None, 0.2334),
        row("full", "full", 247_577_856, 4210.2, 5.25 * 2**30, 0.4216).model_copy(update={"busy": {"train": 0.31}}),
        row("a-rather-long-name-of-an-arm", "lora", 3_538_944, 754.2, None, 0.4081),
        ArmRow(
            arm="ia3", method="ia3", seeds=[], parameters=None, train_seconds=None, total_seconds=None,
            train_peak_bytes=None, generate_peak_bytes=None, scores=None, length_ratio=None, empty_outputs=0,
            truncated_outputs=0, failures=["seed 0: out of memory: killed by the system for want of memory (SIGKILL)"],
        ),
    ],
    evidence=evidence(),
    costs=[
        Cost(
            arm="a-rather-long-name-of-an-arm", baseline="full", quantity="train_seconds",
            ratio=Ratio(value=0.1834, low=0.178, high=0.189), pairs=700, disturbed=12, unlike=[],
            evened=True,
        ),
    ],
    runs=[
        RunArms(
            run="x", arms=["original", "full", "a-rather-long-name-of-an-arm", "ia3"], original="original",
            baseline="full",
        ),
    ],
    same_outputs=[],
    tuning=[],
    samples=[
        Sample(
            id="test_0",
            input="\n".join(f"#Person{1 + n % 2}#: Line {n} [bold]of the[/] dialogue." for n in range(11)),
            references=["First reference.", "Second one 🎈."],
            predictions={"original": "", "full": "A summary that is long enough to need a second line at 80 columns."},
        )
    ],
    signature="metric:rouge_score",
    unfinished=["ia3/seed-1"],
    warnings=["test: 1 of 500 inputs were longer than data.max_source_length and lost their end"],
)  # fmt: skip


def test_the_whole_is_as_in_the_golden_file() -> None:
    """At 80 columns. After a wanted change: delete table.txt, run this once, and read what it wrote."""
    stream = io.StringIO()
    print_comparison(COMPARISON, RunFolder(Path("runs/x")), Console(file=stream, width=80, highlight=False))
    printed = "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(printed, encoding="utf-8")
    assert printed == GOLDEN.read_text(encoding="utf-8")
    assert max(map(len, printed.split("\nrun  ")[0].splitlines())) <= 80  # paths are not broken


def test_the_spread_over_seeds_is_shown_apart() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0, 0.1, (2, 2, 50))
    scores += np.array([[0.2, 0.2], [0.41, 0.43]])[..., None] - scores.mean(2, keepdims=True)
    scores[0, 1] = scores[0, 0]
    found = weigh({"rouge1": Figures(scores)}, ["original", "full"], [0, 1], original=None, baseline=None, keep=0.97)
    assert [n for n in notes(COMPARISON.model_copy(update={"evidence": found})) if "by seed" in n] == [
        "full: ROUGE-1 by seed 41.00, 43.00 (standard deviation 1.41)"
    ]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (count_text(0), "0"), (count_text(3_538_944), "3.54 M"), (count_text(28_700), "28.7 k"),
        (duration_text(None), "–"), (duration_text(59.94), "59.9s"), (duration_text(754.2), "12m 34s"),
        (duration_text(7205), "2h 00m"), (bytes_text(None), "–"), (bytes_text(2**29), "512 MiB"),
        (bytes_text(3 * 2**30), "3.00 GiB"),
    ],
)  # fmt: skip
def test_figures_for_people(made: str, expected: str) -> None:
    assert made == expected
