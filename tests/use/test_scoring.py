"""Finished trials, scored again: on a run made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.made import made_run
from tuneoff.cli.progress import telling
from tuneoff.errors import MetricError, RunBusyError, RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.records import TrialResult, read_predictions
from tuneoff.report.comparison import compare
from tuneoff.report.table import table_cells, table_columns
from tuneoff.use.scoring import score_run


def again(folder: RunFolder, *metrics: str) -> None:
    with telling() as tell:
        score_run(folder, metrics, tell)


def files(folder: RunFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.path.rglob("*.json*"))}


def test_other_metrics_stand_beside_those_of_the_recipe(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    before, _ = compare(folder)
    again(folder, "token_f1", "exact_match")
    after, _ = compare(folder)
    assert after.metrics == ["rouge1", "rouge2", "rougeL", "token_f1", "exact_match"]
    assert table_columns(after)[-2:] == ["F1", "EM"]
    for row, old in zip(after.arms, before.arms, strict=True):
        assert row.scores is not None and old.scores is not None
        assert {name: row.scores[name] for name in before.metrics} == old.scores
        predictions = read_predictions(folder.trial(row.arm, 0).predictions)
        assert row.scores["token_f1"] == pytest.approx(sum(p.scores["token_f1"][0] for p in predictions) / 60)
        assert table_cells(row, after)[-2] == f"{100 * row.scores['token_f1']:.2f}"
    assert after.signature == ("token_f1:squad|exact_match:squad|metric:rouge_score|n:60|tok:ascii")
    assert {d.metric for d in after.evidence.differences} == set(after.metrics)  # type: ignore[union-attr]


def test_scoring_twice_changes_nothing_more(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    again(folder, "number")
    once = files(folder)
    again(folder, "number")
    assert files(folder) == once
    again(folder)  # those of the recipe
    assert (
        TrialResult.read(folder.trial("full", 0).result).scores
        == TrialResult.model_validate_json(once[folder.trial("full", 0).result]).scores
    )


def test_a_run_of_an_older_tuneoff_is_scored_too(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    path = folder.trial("lora", 0).predictions
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({**line.pop("scores"), **line}) + "\n" for line in lines), encoding="utf-8")
    before, _ = compare(folder)
    again(folder, "exact_match")
    after, _ = compare(folder)
    assert before.arms[2].scores == {name: after.arms[2].scores[name] for name in before.metrics}  # type: ignore[index]


def test_what_cannot_be_scored_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "run")
    whole = files(folder)
    with pytest.raises(MetricError, match="there is no metric 'rouge'; did you mean"):
        again(folder, "rouge")
    with pytest.raises(MetricError, match="failed on"):
        again(folder, "exact_match", "json:loads")
    with folder.lock(), pytest.raises(RunBusyError):
        again(folder, "exact_match")
    with pytest.raises(RunFolderError, match="holds no run"):
        again(RunFolder(tmp_path), "exact_match")
    assert files(folder) == whole
    for arm in ("original", "full", "lora"):
        folder.trial(arm, 0).result.unlink()
    with pytest.raises(RunFolderError, match="has no finished trial"):
        again(folder, "exact_match")
