from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneoff.data.rows import read_rows
from tuneoff.errors import DataError

ROWS = [{"dialogue": 'He said "no",\nthen left.', "summary": "naïve 🎈"}, {"dialogue": "b", "summary": "c"}]
CSV = 'dialogue,summary\n"He said ""no"",\nthen left.",naïve 🎈\nb,c\n'
JSONL = '{"dialogue": "He said \\"no\\",\\nthen left.", "summary": "naïve 🎈"}\n\n{"dialogue": "b", "summary": "c"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV.encode()),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("a.tsv", CSV.replace(",summary", "\tsummary").replace('",na', '"\tna').replace("b,c", "b\tc").encode()),
        ("a.jsonl", JSONL.encode()),
        ("a.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0)),
        ("a.json", ("[" + JSONL.strip().replace("}\n\n{", "},{") + "]").encode()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert [row.columns for row in read_rows(tmp_path / name)] == ROWS


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    rows = list(read_rows(tmp_path / "a.parquet"))
    assert [row.columns for row in rows] == ROWS
    assert rows[1].where == "a.parquet: row 1"


def test_a_row_that_cannot_be_read_has_its_place_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \xff}\n{"a": \n[1]\n')
    found = [(row.where, row.unreadable and row.unreadable.split(" (")[0]) for row in read_rows(path)]
    assert found == [
        ("a.jsonl:1", None), ("a.jsonl:2", "is not UTF-8"), ("a.jsonl:3", "is not JSON"),
        ("a.jsonl:4", "is no JSON object, but list"),
    ]  # fmt: skip


def test_bad_csv_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n1,2,3\n\xff,2\n")
    assert [row.unreadable for row in read_rows(path)] == [None, "has more fields than the header's 2", "is not UTF-8"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b"x"), ("a.json", b"{"), ("a.json", b"3"), ("a.parquet", b"x"), ("a.jsonl.gz", b"x")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        list(read_rows(tmp_path / name))
