"""Finished runs, diagnosed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.runner.test_trial import QUIET
from tuneoff.errors import DamagedFileError, RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.records import Diagnosis
from tuneoff.report.diagnosis import diagnosis_lines, energy_held
from tuneoff.runner.diagnosing import diagnose_run, stored_dtype


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(run.path, tmp_path / "copy"))


def weights(folder: RunFolder, arm: str) -> dict[str, torch.Tensor]:
    path = folder.base if arm == "original" else folder.trial(arm, 0).model
    return load_file(path / "model.safetensors")


def test_every_arm_that_trained_has_the_spectrum_of_its_own_update(copy: RunFolder) -> None:
    found = diagnose_run(copy, QUIET)
    assert [(d.arm, d.refused) for d in found] == [("full", None), ("lora", None), ("dora", None)]
    assert [Diagnosis.read(copy.trial(d.arm, 0).diagnosis) for d in found] == found
    full, lora, _ = found
    before, after = weights(copy, "original"), weights(copy, "full")
    for matrix in full.matrices:
        update = (after[matrix.name] - before[matrix.name]).double()
        assert matrix.relative_norm == pytest.approx(float(update.norm() / before[matrix.name].norm()), rel=1e-4)
        values = torch.linalg.svdvals(update)
        assert matrix.stable_rank == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=1e-4)
        assert matrix.overlap is None
    assert sum(m.share for m in full.matrices) + full.vectors == pytest.approx(1)
    assert {m.kind for m in lora.matrices} == {"q", "v"}
    assert all(m.rank90 <= 4 and m.energy[4] == pytest.approx(1, abs=1e-3) for m in lora.matrices)  # r=4
    assert lora.vectors < 1e-6 and lora.unchanged > 0
    overlaps = [m.overlap for m in lora.matrices]
    assert all(o is not None and o.random == o.directions / 32 and 0 <= o.value <= 1 for o in overlaps)


def test_the_table_has_a_row_for_each_kind_in_80_columns(run: RunFolder, copy: RunFolder) -> None:
    full, lora, _ = diagnose_run(copy, QUIET)
    lines = diagnosis_lines(full)
    assert all(len(line) <= 80 for found in (full, lora) for line in diagnosis_lines(found)), lines
    assert [line.split()[0] for line in lines[3:10]] == ["q", "k", "v", "o", "gate", "up", "down"]
    total = sum(m.share for m in full.matrices)
    held = sum(m.share * m.energy.get(8, 1.0) for m in full.matrices) / total
    assert energy_held(full.matrices, 8) == pytest.approx(held)
    assert f"8: {100 * held:.0f} %" in "\n".join(lines)
    assert "of full's strongest directions it has" in diagnosis_lines(lora)[-1]


def test_weights_of_a_coarse_file_are_refused(copy: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy.trial("full", 0).model / "model.safetensors"
    before, after = weights(copy, "original"), weights(copy, "full")
    near = {name: before[name] + 1e-3 * (after[name] - before[name]) for name in after}
    save_file({name: value.to(torch.bfloat16) for name, value in near.items()}, path, metadata={"format": "pt"})
    assert stored_dtype(path.parent) == torch.bfloat16
    with pytest.raises(DamagedFileError):  # it is not what was trained
        diagnose_run(copy, QUIET)
    monkeypatch.setattr("tuneoff.runner.finished.require_saved", lambda *_: None)
    full = diagnose_run(copy, QUIET)[0]
    assert full.refused is not None and "stored in bfloat16" in full.refused
    assert diagnosis_lines(full) == [f"full at seed 0: not diagnosed, {full.refused}"]


def test_what_has_no_update_of_weights_says_so(copy: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.runner.diagnosing.can_merge", lambda _: False)
    full, lora, _ = diagnose_run(copy, QUIET)
    assert full.refused is None
    assert lora.refused == "what lora trains is no update of the model's weights"
    assert json.loads(copy.trial("lora", 0).diagnosis.read_text())["matrices"] == []


def test_a_run_without_a_trained_arm_is_refused(tmp_path: Path, copy: RunFolder) -> None:
    for arm in ("full", "lora", "dora"):
        copy.trial(arm, 0).result.unlink()
    with pytest.raises(RunFolderError, match="no finished trial that trained: there is nothing to diagnose"):
        diagnose_run(copy, QUIET)
    with pytest.raises(RunFolderError):
        diagnose_run(RunFolder(tmp_path / "nothing"), QUIET)
