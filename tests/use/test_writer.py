"""A finished arm writes what its trial wrote, wherever its run lies, and nothing where it is not what was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runner.test_trial import QUIET
from tests.use.conftest import ARMS
from tuneoff.errors import DamagedFileError, ModelError, WriteError
from tuneoff.folder import RunFolder
from tuneoff.records import Prediction, read_predictions
from tuneoff.runner.finished import Finished
from tuneoff.use.export import export
from tuneoff.use.export.exporting import FORMATS
from tuneoff.use.writer import Writer


@pytest.fixture
def copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(shutil.copytree(run.path, tmp_path / "copy"))


def inputs(predictions: list[Prediction]) -> list[dict[str, str]]:
    return [{"dialogue": prediction.input} for prediction in predictions]


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_that_was_moved_uses_its_own_base(run: RunFolder, copy: RunFolder, arm: str) -> None:
    moved = copy.path.rename(copy.path.with_name("moved elsewhere"))
    finished = Finished(RunFolder(moved), arm)
    assert finished.resolved.model_path == str(moved / "base")
    predictions = read_predictions(run.trial(arm, 0).predictions)
    assert [w.text for w in Writer(finished).write(inputs(predictions))] == [p.prediction for p in predictions]


def a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [a_bit, cut, Path.unlink])
@pytest.mark.parametrize(
    ("arm", "name"),
    [
        ("full", "model.safetensors"), ("full", "config.json"), ("lora", "adapter_model.safetensors"),
        ("lora", "adapter_config.json"),
    ],
)  # fmt: skip
def test_what_is_not_what_was_trained_is_refused(
    copy: RunFolder, tmp_path: Path, arm: str, name: str, damage: Callable[[Path], None]
) -> None:
    damage(copy.trial(arm, 0).model / name)
    for use in (lambda: Finished(copy, arm).model(), lambda: export(copy, arm, tmp_path / "to", "merged", QUIET)):
        with pytest.raises(DamagedFileError, match=rf"{arm}/seed-0/model does not hold what was trained \(sha256"):
            use()
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("damage", [a_bit, cut, Path.unlink])
def test_an_adapter_is_not_used_on_another_base(
    copy: RunFolder, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(copy.base / "model.safetensors")
    uses = (lambda: Finished(copy, "lora").model(), lambda: export(copy, "lora", tmp_path / "to", "adapter", QUIET))
    for use in uses:
        with pytest.raises(ModelError, match="base holds another model than when this run began"):
            use()


def test_nothing_is_written_with_another_tokenizer(copy: RunFolder, tmp_path: Path) -> None:
    path = copy.base / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = tokenizer["model"]["vocab"]
    if isinstance(words, dict):
        tokenizer["model"]["vocab"] = dict(zip(words, [*list(words.values())[1:], 0], strict=True))
    else:
        words[-1], words[-2] = words[-2], words[-1]
    path.write_text(json.dumps(tokenizer))
    for use in (lambda: Writer(Finished(copy, "full")), lambda: export(copy, "full", tmp_path / "to", "merged", QUIET)):
        with pytest.raises(ModelError, match="base holds another tokenizer than when this run began"):
            use()


def test_a_full_disk_is_told_and_nothing_is_left(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Finished, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setitem(FORMATS, "merged", replace(FORMATS["merged"], write=full))
    with pytest.raises(WriteError, match=rf"^{tmp_path}/to cannot be written \(No space left on device\): it needs"):
        export(run, "lora", tmp_path / "to", "merged", QUIET)
    assert list(tmp_path.iterdir()) == []
