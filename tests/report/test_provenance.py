"""What really ran, in comparison.json and on the page."""

from __future__ import annotations

from pathlib import Path

from tests.report.made import PARAMETERS, made_run
from tuneoff.report.comparison import Comparison, compare_runs
from tuneoff.report.page import write_report


def test_comparison_json_says_all_that_a_reviewer_asks_for(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    write_report(folder)
    (ran,) = Comparison.read(folder.comparison).ran
    assert ran.run == "run"
    assert ran.model_sha256 == "1" * 64
    assert ran.splits["test"].content_sha256 == "0" * 64
    assert (ran.precision, ran.micro_batch, ran.seeds) == ("fp32: as the recipe says", 8, [0])
    by_arm = {arm.arm: arm for arm in ran.arms}
    assert by_arm["lora"].settings["r"] == ran.recipe["arms"]["lora"]["r"]
    assert by_arm["lora"].engine_reason == "the fastest that all arms share"
    assert {arm: one.trainable for arm, one in by_arm.items()} == PARAMETERS
    assert ran.command.startswith(f"tuneoff run {tmp_path}/run/recipe.yaml --out {tmp_path}/run-again")


def test_the_page_and_the_markdown_have_the_same_facts(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    write_report(folder)
    for text in (folder.report.read_text(encoding="utf-8"), (folder.path / "report.md").read_text(encoding="utf-8")):
        for fact in ("1" * 12, "fp32: as the recipe says", "micro-batch", "r=4", "3.54 M", "What ran"):
            assert fact in text


def test_each_run_of_several_says_what_it_ran(tmp_path: Path) -> None:
    found, _ = compare_runs([made_run(tmp_path / name) for name in ("monday", "tuesday")])
    assert [one.run for one in found.ran] == ["monday", "tuesday"]
    assert [arm.arm for arm in found.ran[1].arms] == ["tuesday/original", "tuesday/full", "tuesday/lora"]
