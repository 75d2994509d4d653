"""Several runs on one page: one original, each run with its own baseline, and what differs between them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

from tests.report.made import made_run
from tuneoff.folder import RunFolder, write_lines
from tuneoff.records import read_predictions
from tuneoff.report.comparison import Comparison, compare, compare_runs
from tuneoff.report.page import write_report, write_report_of_runs
from tuneoff.report.run_differences import run_differences
from tuneoff.report.table import notes
from tuneoff.report.verdict import verdict


def two_runs(path: Path, *, same_original: bool = True) -> list[RunFolder]:
    """Two runs, the second with other texts of its LoRA, three epochs in place of two, and other versions."""
    runs = [made_run(path / name) for name in ("tickets", "stop")]
    _rewrite(runs[1], "lora")
    if not same_original:
        _rewrite(runs[1], "original")
    resolved = json.loads(runs[1].resolved.read_text(encoding="utf-8"))
    resolved["recipe"]["training"]["epochs"] = 3.0
    runs[1].resolved.write_text(json.dumps(resolved), encoding="utf-8")
    for run, version in zip(runs, ("2.12.0", "2.13.0"), strict=True):
        file = run.trial("full", 0).result
        result = json.loads(file.read_text(encoding="utf-8"))
        result["environment"] = {"packages": {"torch": version}}
        file.write_text(json.dumps(result), encoding="utf-8")
    return runs


def _rewrite(run: RunFolder, arm: str) -> None:
    """Another text for the last example, whose score stays."""
    path = run.trial(arm, 0).predictions
    *rest, last = read_predictions(path)
    other = last.model_copy(update={"prediction": last.prediction + "!"})
    write_lines(path, (p.model_dump() for p in [*rest, other]))


def test_the_same_untrained_model_is_one_arm(tmp_path: Path) -> None:
    found, arms = compare_runs(two_runs(tmp_path))
    names = ["original", "tickets/full", "tickets/lora", "stop/full", "stop/lora"]
    assert [row.arm for row in found.arms] == [arm.name for arm in arms] == names
    assert [(run.original, run.baseline) for run in found.runs] == [
        ("original", "tickets/full"), ("original", "stop/full"),
    ]  # fmt: skip


def test_different_untrained_models_stay_two(tmp_path: Path) -> None:
    found, _ = compare_runs(two_runs(tmp_path, same_original=False))
    assert [run.original for run in found.runs] == ["tickets/original", "stop/original"]
    assert "stop/original wrote" not in " ".join(verdict(found))


def test_each_run_is_judged_as_in_its_own_report(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    together, _ = compare_runs(runs)
    assert together.evidence is not None
    for run in runs:
        alone, _ = compare(run)
        name = run.path.name
        assert alone.evidence is not None
        own = {
            (d.metric, d.arm, d.other): (d.difference, d.p, d.p_holm)
            for d in together.evidence.differences
            if all(arm.startswith(f"{name}/") or arm == "original" for arm in (d.arm, d.other))
        }
        for d in alone.evidence.differences:
            arm, other = (a if a == "original" else f"{name}/{a}" for a in (d.arm, d.other))
            assert own.pop((d.metric, arm, other)) == (d.difference, d.p, d.p_holm)
        assert own == {}
    judged = {(j.arm, j.baseline) for j in together.evidence.non_inferiority}
    assert judged == {("tickets/lora", "tickets/full"), ("stop/lora", "stop/full")}


def test_across_runs_only_arms_of_the_same_name_are_compared(tmp_path: Path) -> None:
    found, _ = compare_runs(two_runs(tmp_path))
    assert found.evidence is not None
    pairs = {frozenset((d.arm, d.other)) for d in found.evidence.differences}
    within = [{"original", "tickets/full", "tickets/lora"}, {"original", "stop/full", "stop/lora"}]
    expected = {frozenset(pair) for arms in within for pair in combinations(sorted(arms), 2)}
    expected |= {frozenset(("tickets/full", "stop/full")), frozenset(("tickets/lora", "stop/lora"))}
    assert pairs == expected


def test_the_verdict_begins_with_each_run_and_nothing_is_said_of_what_was_not_trained(tmp_path: Path) -> None:
    said = verdict(compare_runs(two_runs(tmp_path))[0])
    assert said[0].startswith("Training helped: ROUGE-1 rose from 23.5 (original) to 73.7 with tickets/full (")
    assert said[1].startswith("Training helped: ROUGE-1 rose from 23.5 (original) to 73.7 with stop/full (")
    text = " ".join(said)
    assert "tickets/lora keeps " in text and " of tickets/full's ROUGE-1" in text
    assert "stop/lora keeps " in text and " of stop/full's ROUGE-1" in text
    assert "tickets/full and stop/full wrote the same on all 60 examples" in text
    assert "stop/lora and tickets/lora are not shown to differ in ROUGE-1: +0.0 points" in text
    assert "original wrote" not in text and "changed nothing" not in text


def test_costs_are_against_the_run_s_own_baseline(tmp_path: Path) -> None:
    found, _ = compare_runs(two_runs(tmp_path))
    baselines = {(cost.arm, cost.baseline) for cost in found.costs if cost.arm != "original"}
    assert baselines == {("tickets/lora", "tickets/full"), ("stop/lora", "stop/full")}


def test_what_differs_between_the_runs_is_a_table(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    differences = run_differences(compare_runs(runs)[0].ran)
    assert differences["training.epochs"] == ["2.0", "3.0"]
    assert differences["torch"] == ["2.12.0", "2.13.0"]
    assert "training.examples_per_step" not in differences
    write_report_of_runs(runs, tmp_path / "both")
    for name in ("report.html", "report.md"):
        page = (tmp_path / "both" / name).read_text(encoding="utf-8")
        assert "What differs between the runs" in page and "training.epochs" in page


def test_one_run_has_no_such_table(tmp_path: Path) -> None:
    found: Comparison = compare(made_run(tmp_path))[0]
    assert [run.arms for run in found.runs] == [["original", "full", "lora"]]


def test_groups_of_examples_are_resampled_and_told(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    before, _ = compare(folder)
    resolved = json.loads(folder.resolved.read_text(encoding="utf-8"))
    resolved["recipe"]["data"]["group"] = "situation"
    resolved["groups"] = {"test": [n // 6 for n in range(60)]}
    folder.resolved.write_text(json.dumps(resolved), encoding="utf-8")
    found, _ = compare(folder)
    assert found.evidence is not None and before.evidence is not None
    assert (before.evidence.groups, found.evidence.groups, found.group) == (None, 10, "situation")
    pairs = list(zip(before.evidence.differences, found.evidence.differences, strict=True))
    assert all(a.difference.value == b.difference.value for a, b in pairs)
    assert all(a.difference != b.difference for a, b in pairs)
    told = "60 examples in 10 groups by 'situation'"
    assert f"{told}: intervals and tests resample groups" in notes(found)
    write_report(folder)
    for name in ("report.html", "report.md"):
        page = (folder.path / name).read_text(encoding="utf-8").replace("&#39;", "'")
        assert f"({told}, which are resampled)" in page
        assert "bootstrap over groups of examples" in page
