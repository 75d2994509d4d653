"""What a report says of a run's own checks, and of engines that differ."""

from __future__ import annotations

from pathlib import Path

from tests.report.made import made_run
from tuneoff.folder import RunFolder
from tuneoff.records import Agreement, Checks, Moved, TrialResult
from tuneoff.report.alike import unlike_text
from tuneoff.report.checking import checks_text
from tuneoff.report.claims import claims
from tuneoff.report.comparison import compare
from tuneoff.report.cost_table import cost_notes
from tuneoff.report.page import write_report
from tuneoff.report.table import notes
from tuneoff.report.verdict import verdict


def agreement(difference: float) -> Agreement:
    return Agreement(value=1 + difference, reference=1.0, difference=difference, tolerance=1.0)


def checks(loss: float) -> Checks:
    return Checks(
        examples=2, loss=agreement(loss), gradient_norm=agreement(3e-5), split_loss=agreement(0.0),
        split_gradient_norm=agreement(0.0), moved=Moved(updates=2, trainable=9, moved=9, frozen=5, frozen_moved=0),
        reloaded_tensors=9, reloaded_loss=agreement(0.0),
    )  # fmt: skip


def change(folder: RunFolder, arm: str, **fields: object) -> None:
    path = folder.trial(arm, 0).result
    TrialResult.read(path).model_copy(update=fields).write(path)


def test_the_checks_are_one_plain_sentence_with_the_largest_difference(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    assert checks_text(compare(folder)[0].arms) is None
    change(folder, "full", checks=checks(4e-6))
    change(folder, "lora", checks=checks(1e-7).model_copy(update={"not_checked": ["the split: one example"]}))
    comparison, _ = compare(folder)
    assert checks_text(comparison.arms) == (
        "Checked against plain transformers on 2 examples of the first step: loss equal to 4e-6, gradient to 3e-5, "
        "split into single examples to the last digit, every tensor that is trained moved and no other one did, what "
        "was saved is what was trained. Not checked: lora: the split: one example."
    )
    assert checks_text(comparison.arms) in notes(comparison)
    write_report(folder)
    assert "Checked against plain transformers on 2 examples" in folder.report.read_text(encoding="utf-8")


def test_tensors_that_did_not_move_are_not_said_to_have_moved(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    partly = Moved(updates=4, trainable=9, moved=8, frozen=5, frozen_moved=0)
    ended = "which tensors change: the training ended after 4 updates"
    change(folder, "full", checks=checks(0.0).model_copy(update={"moved": partly, "not_checked": [ended]}))
    said = checks_text(compare(folder)[0].arms)
    assert said is not None and "every tensor" not in said and said.endswith(f"Not checked: full: {ended}.")


def test_a_ratio_between_engines_says_so_wherever_it_stands(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    for arm in ("original", "full", "lora"):
        change(folder, arm, engine="t5")
    alike, _ = compare(folder)
    assert unlike_text(alike.unlike) is None
    assert not any("engine" in text for text in (*verdict(alike), *notes(alike), *cost_notes(alike)))
    change(folder, "lora", engine="plain")
    unlike, arms = compare(folder)
    said = "not all arms ran alike: engine (original and full: t5; lora: plain)"
    assert any(note.startswith(said) for note in cost_notes(unlike))
    assert "the training time (unlike in engine (plain and t5))" in verdict(unlike)[1]
    assert {tuple(cost.unlike) for cost in unlike.costs if cost.arm == "lora"} == {("engine",)}
    assert sum("unlike in engine (plain and t5)" in claim.measured for claim in claims(unlike, arms)) == 2
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert page.count("ot all arms ran alike: engine (original and full: t5; lora: plain)") == 3  # table, costs, time


def test_threads_versions_and_devices_that_differ_are_named(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    here = {"device": "cpu", "threads": 2, "packages": {"torch": "2.13.0"}}
    change(folder, "full", environment=here)
    change(folder, "lora", environment={**here, "threads": 1, "packages": {"torch": "2.12.0"}})
    found, _ = compare(folder)
    assert {tuple(cost.unlike) for cost in found.costs if cost.arm == "lora"} == {("threads", "torch")}
    assert "(unlike in threads (1 and 2), torch (2.12.0 and 2.13.0))" in verdict(found)[1]


def test_scores_of_unlike_precision_are_told_apart_in_words(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    change(folder, "lora", signature="metric:rouge_score|n:60|precision:bf16|seed:0")
    change(folder, "full", signature="metric:rouge_score|n:60|precision:fp32|seed:0")
    change(folder, "original", signature="metric:rouge_score|n:60|precision:fp32|seed:0")
    found, _ = compare(folder)
    assert found.evidence is None
    assert verdict(found) == ["No verdict: original and lora were scored differently, in precision (fp32 and bf16)."]
