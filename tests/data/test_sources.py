from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_jsonl
from tuneoff.data.sources import open_source
from tuneoff.errors import DataError, TuneoffError
from tuneoff.recipe.data import DataSpec


def spec(source: Any, **more: Any) -> DataSpec:
    return DataSpec(source=source, input="dialogue", target="summary", **more)


def texts(source: Any, split: str, **more: Any) -> list[str]:
    return [row.columns["dialogue"] for row in open_source(spec(source, **more)).rows(split)]


def test_folders_in_the_hub_s_layouts(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        write_jsonl(tmp_path / "flat" / f"{split}.jsonl", [{"dialogue": split, "summary": "s"}])
        for part in range(2):
            file = tmp_path / "sharded" / "data" / f"{split}-0000{part}-of-00002.jsonl"
            write_jsonl(file, [{"dialogue": f"{split}{part}", "summary": "s"}])
    assert texts(str(tmp_path / "flat"), "validation") == ["validation"]
    assert texts(str(tmp_path / "sharded"), "train") == ["train0", "train1"]


def test_files_by_split_under_the_recipe_s_own_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"dialogue": "x", "summary": "s"}])
    files = {"train": str(tmp_path / "a.jsonl"), "test": str(tmp_path / "a.jsonl")}
    assert texts(files, "train") == ["x"]
    assert texts(files, "held-out", splits={"test": "held-out"}) == ["x"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "no such folder"),
        ("./no-such", "no such folder"),
        ("no-such.csv", "no such file: no-such.csv"),
        ("no-such.jsonl.gz", "no such file: no-such.jsonl.gz"),
        ("builtin:everydya", "nothing called 'builtin:everydya' ships"),
        ({"train": "/no/a.jsonl", "test": "/no/b.jsonl"}, "no such file: /no/a.jsonl"),
    ],
)
def test_what_is_not_there_is_told(source: Any, message: str) -> None:
    with pytest.raises(TuneoffError, match=message):
        open_source(spec(source))


def test_a_single_file_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one" / "train.jsonl", [{}])
    with pytest.raises(DataError, match="is one file"):
        open_source(spec(str(tmp_path / "one" / "train.jsonl")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data files"):
        open_source(spec(str(tmp_path / "empty")))


def test_an_unknown_split_names_the_nearest(data_folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'tests'; did you mean 'test'"):
        list(open_source(spec(str(data_folder))).rows("tests"))


def test_a_hub_data_set_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot load 'some/dialogues': ") as caught:
        list(open_source(spec("some/dialogues")).rows("train"))
    assert "\n" not in str(caught.value)
