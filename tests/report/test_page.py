"""The report as a file: complete, inert, of one piece."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.made import NASTY, made_run
from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.records import KeptStep, Parameters, Trained, TrialResult
from tuneoff.report.comparison import compare
from tuneoff.report.page import write_report, write_report_of_runs
from tuneoff.report.table import notes


class Tags(HTMLParser):
    """Every start tag, whether what is opened is closed, and the text of the title."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_whole_run(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    write_report(folder)
    html = folder.report.read_text(encoding="utf-8")
    tags = Tags(html)
    assert tags.open == []
    assert tags.found.count("svg") == 15 + 3 + 1 + 1 + 1 + 3  # costs, learning, memory, time, scores, pairs
    assert tags.found.count("article") == 60
    assert "lora keeps " in html
    assert "99 % fewer gradients" in html
    assert "98.6 % fewer" in html
    assert "3.00 times less" in html  # 900 MiB against 300
    assert "1.00 times faster" in html
    assert "&lt;cpu&gt; &amp; more" in html
    assert not re.search(r"src=|href=\"[^#]|https?://|@import|url\(", html)
    assert folder.report.stat().st_size < 3_000_000


def test_the_markdown_has_verdict_table_and_signature(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    write_report(folder)
    text = (folder.path / "report.md").read_text(encoding="utf-8")
    assert "lora keeps " in text
    assert re.search(r"^\| lora \| 3\.54 M \| 1\.41% \|", text, re.M)
    assert re.search(r"^\| lora − full \| ROUGE-1 \| [+-]\d", text, re.M)
    assert "signature: `metric:rouge_score|n:60|tok:ascii`" in text


def test_any_text_is_inert(tmp_path: Path) -> None:
    plain, nasty = made_run(tmp_path / "plain"), made_run(tmp_path / "nasty", extra=[*NASTY, "x" * 100_000])
    write_report(plain)
    write_report(nasty)
    html = nasty.report.read_text(encoding="utf-8")
    kinds = set(Tags(html).found) - {"mark"}
    assert kinds == set(Tags(plain.report.read_text(encoding="utf-8")).found) - {"mark"}
    assert "more characters in predictions.jsonl" in html
    assert "{{ 7 * 7 }}" in html
    assert len(html) < 3_000_000


def test_a_failed_and_an_unfinished_arm_are_told(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run", failed="lora")
    folder.trial("full", 0).result.unlink()
    write_report(folder)
    html = folder.report.read_text(encoding="utf-8")
    assert "lora, seed 0: out of memory: killed by the system for want of memory (SIGKILL)" in html
    assert "Not finished: full/seed-0" in html
    assert "No verdict yet: fewer than two arms have finished." in html
    assert Tags(html).open == []


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    for arm in ("original", "full", "lora"):
        folder.trial(arm, 0).result.unlink()
    write_report(folder)
    assert "Not finished: original/seed-0, full/seed-0, lora/seed-0" in folder.report.read_text(encoding="utf-8")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        write_report(RunFolder(tmp_path))


def test_several_runs_on_one_page(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name) for name in ("monday", "tuesday")]
    write_report_of_runs(runs, tmp_path / "both")
    html = (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    assert Tags(html).open == []
    assert "<title>monday, tuesday: full fine-tuning vs PEFT</title>" in html
    assert "monday/lora keeps " in html
    assert "monday/full and tuesday/full wrote the same on all 60 examples" in html
    arms = re.findall(r'<th scope="row"><span class="key c\d"></span>([^<]*)</th>', html)
    assert arms == ["original", "monday/full", "monday/lora", "tuesday/full", "tuesday/lora"]


def test_runs_that_were_scored_differently_are_refused_with_the_reason(tmp_path: Path) -> None:
    runs = [made_run(tmp_path / name) for name in ("a", "b")]
    path = runs[1].trial("full", 0).result
    path.write_text(path.read_text().replace("|n:60|", "|n:61|"), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"original and b/full were scored differently, in n \(60 and 61\)"):
        write_report_of_runs(runs, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_the_step_that_was_kept_is_told_with_what_came_after(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    path = folder.trial("full", 0).result
    result = TrialResult.read(path)
    trained = Trained(
        parameters=Parameters(trainable=1, total=1), engine="t5", seconds={}, memory=None, steps=80,
        kept=KeptStep(
            step=60, validation_loss=2.5, last_loss=2.75, steps_after=20, seconds_after=95.0, stopped_early=80,
            steps_not_done=20,
        ),
        examples=8, target_tokens=8, final_loss=1.0, resumed_from_step=None, checkpoints_rejected=[],
    )  # fmt: skip
    result.model_copy(update={"training": trained}).write(path)
    with folder.trial("full", 0).history.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": 60, "eval_loss": 2.5, "train_seconds": 30.0}) + "\n")
    comparison, _ = compare(folder)
    told = [note for note in notes(comparison) if "kept" in note]
    assert told == [
        "full: the weights of step 60 are kept, whose validation loss 2.500 is the lowest (2.750 after 20 more steps, "
        "which took 1m 35s); stopped early, after step 80 of 100: 20 steps were not done"
    ]
    assert any("of the steps that both arms did" in note for note in notes(comparison))
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert page.count(">kept</text>") == 3  # by steps, by seconds, by weights updated
    assert page.count("<title>Loss by weights updated: steps × trainable parameters</title>") == 1
