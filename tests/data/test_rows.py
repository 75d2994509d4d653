from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuneoff.data.examples import Examples, read_examples
from tuneoff.data.formats import GivenFormat, find_delimiter, find_format
from tuneoff.data.prompt import Prompt
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
        ("a.jsonl", JSONL.encode()),
        ("a.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0)),
        ("a.json", ("[" + JSONL.strip().replace("}\n\n{", "},{") + "]").encode()),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert [row.columns for row in read_rows(tmp_path / name)] == ROWS


def test_a_line_of_a_tsv_file_is_a_row_whatever_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    lines = [f'"{n} is how it begins\tand "so" on' if n % 3 else f"{n}\tplain" for n in range(38)]
    path.write_text("dialogue\tsummary\n" + "\r\n".join(lines))
    rows = list(read_rows(path))
    assert [tuple(row.columns.values()) for row in rows] == [tuple(line.split("\t")) for line in lines]
    assert rows[37].where == "a.tsv:39"


def test_a_tsv_file_with_quoted_fields_is_read_so_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('dialogue\tsummary\n"a\tb\nc"\t"says ""d"""\n')
    assert [row.columns for row in read_rows(path, GivenFormat(quoted_tsv=True))] == [
        {"dialogue": "a\tb\nc", "summary": 'says "d"'}
    ]


def test_lines_are_counted_against_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{n},s" for n in range(40)]
    lines[7], lines[10] = '"7 inches,s', '10",s'
    path.write_text("dialogue,summary\n" + "\n".join(lines) + "\n")
    (warning,) = read(path).warnings
    assert warning.startswith("1 of 37 rows take several lines of their file, the first to end at a.csv:12 (4 lines).")
    path.write_text("dialogue,summary\n" + "".join(f'"#A#: {n}\n#B#: so",s\n' for n in range(40)))
    assert read(path).warnings == []
    path.write_text("dialogue,summary\n" + "".join(f"{n},s\n\n" for n in range(40)))
    assert read(path).warnings == []


def read(path: Path) -> Examples:
    return read_examples(
        read_rows(path), input="dialogue", target="summary", prompt=Prompt("{dialogue}"), group_references=False,
        limit=None, skip_bad_rows=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,summary,text\n1,2,3\n"),
        ("a.tsv", "text\tsummary\ttext\n1\t2\t3\n"),
        ("a.json", '[{"text": "1", "summary": "2", "text": "3"}]'),
    ],
)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="'text' twice"):
        list(read_rows(tmp_path / name))


def test_a_key_that_comes_twice_makes_a_line_of_jsonl_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "1"}\n{"a": "1", "b": {"c": 1, "c": 2}}\n')
    first, second = read_rows(tmp_path / "a.jsonl")
    assert first.unreadable is None
    assert second.unreadable == "is not JSON (an object has the key 'c' twice)"


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["1"]), pa.array(["2"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="'text' is there twice"):
        list(read_rows(tmp_path / "a.parquet"))


def test_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    rows = list(read_rows(tmp_path / "a.parquet"))
    assert [row.columns for row in rows] == ROWS
    assert rows[1].where == "a.parquet: row 1"


def test_a_row_that_cannot_be_read_has_its_place_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"a": "äö"}\n'.encode() + b'{"a": \xff}\n{"a": \n[1]\n')
    found = [(row.where, row.unreadable and row.unreadable.split(" (")[0]) for row in read_rows(path)]
    assert found == [
        ("a.jsonl:1", None), ("a.jsonl:2", "is not UTF-8"), ("a.jsonl:3", "is not JSON"),
        ("a.jsonl:4", "is no JSON object, but list"),
    ]  # fmt: skip


def test_bad_csv_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("a,b\n1,ü\n1,ö,3\n".encode() + b"\xff,2\n")
    assert [row.unreadable for row in read_rows(path)] == [None, "has more fields than the header's 2", "is not UTF-8"]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt", b"x"), ("a.json", b"{"), ("a.json", b"3"), ("a.parquet", b"x"), ("a.jsonl.gz", b"x")],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        list(read_rows(tmp_path / name))


def test_a_stray_quote_is_a_bad_row_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "stray.csv"
    path.write_text("dialogue,summary\n" + "".join(f"d{n},s{n}\n" for n in range(8)) + '"He" said,x\nlast,y\n')
    rows = list(read_rows(path))
    assert [(row.where, row.unreadable) for row in rows if row.unreadable] == [
        ("stray.csv:10", "is not CSV (',' expected after '\"')")
    ]
    assert rows[-1].columns == {"dialogue": "last", "summary": "y"} and len(rows) == 10


def test_a_quote_that_is_never_closed_is_told_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "open.csv"
    path.write_text('dialogue,summary\na,b\n"c,d\ne,f\n')
    with pytest.raises(DataError, match=r"open\.csv:3: a quotation mark that begins there is never closed"):
        list(read_rows(path))


def zipped(name: str, content: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("__MACOSX/._" + name, b"x")
    return whole.getvalue()


def zst(content: bytes) -> bytes:
    whole = pa.BufferOutputStream()
    with pa.CompressedOutputStream(whole, "zstd") as file:
        file.write(content)
    return whole.getvalue().to_pybytes()


def parquet() -> bytes:
    whole = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), whole)
    return whole.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(CSV.encode())),
        ("a.csv.bz2", bz2.compress(CSV.encode())),
        ("a.jsonl.xz", lzma.compress(JSONL.encode())),
        ("a.csv.zst", zst(CSV.encode())),
        ("download.zip", zipped("a.csv", CSV.encode())),
        ("a.parquet.zst", zst(parquet())),
        ("A.CSV", CSV.encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # contents hold the time at which they were compressed
)
def test_compressed_files_give_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert [row.columns for row in read_rows(tmp_path / name)] == ROWS


def test_a_damaged_archive_and_a_zip_of_several_files_are_told(tmp_path: Path) -> None:
    for name in ("a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zst", "a.csv.zip", "a.parquet.gz"):
        (tmp_path / name).write_bytes(b"no archive")
        with pytest.raises(DataError, match=f"{name}: cannot read"):
            list(read_rows(tmp_path / name))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(bytes(range(256)) * 99)[:-50])
    with pytest.raises(DataError, match=r"b\.csv\.gz: cannot read"):
        list(read_rows(tmp_path / "b.csv.gz"))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("b.csv", CSV)
    with pytest.raises(DataError, match="a zip must hold one file, and this one holds 2: unpack it"):
        list(read_rows(tmp_path / "two.zip"))


GERMAN = 'Anfrage;Antwort\r\nTür, größer;schön\r\n"a;b";ja\r\n'
GERMAN_ROWS = [{"Anfrage": "Tür, größer", "Antwort": "schön"}, {"Anfrage": "a;b", "Antwort": "ja"}]


@pytest.mark.parametrize(
    ("encoding", "name", "notice"),
    [
        ("utf-8", "a.csv", "a.csv is read with ';' between its columns"),
        ("cp1252", "a.csv", "a.csv is read as cp1252 (as in 'Tür') and with ';' between its columns"),
        ("utf-16", "a.tsv", "a.tsv is read as utf-16 (as in 'Tür') and with ';' between its columns"),
        ("utf-16-le", "a.csv", "a.csv is read as utf-16-le (as in 'Tür') and with ';' between its columns"),
    ],
)
def test_encoding_and_delimiter_are_found_and_named(tmp_path: Path, encoding: str, name: str, notice: str) -> None:
    path = tmp_path / name
    path.write_bytes(GERMAN.encode(encoding))
    assert [row.columns for row in read_rows(path)] == GERMAN_ROWS
    assert find_format(path, GivenFormat()).notice == notice
    given = GivenFormat(delimiter=";", encoding=encoding)
    assert [row.columns for row in read_rows(path, given)] == GERMAN_ROWS
    assert find_format(path, given).notice is None


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b;c\n1,2;3;4\n1,2;;\n", ","),
        ("a, b;c\n1;2\n3, 4, 5;6\n", ";"),
        ("a\tb\nx, y\tz\n", "\t"),
        ("a|b\nx, y|z\n", "|"),
        ("text\nx; y; z\n", ","),
        ("sep=;\na;b\n1;2\n", ";"),
        ('"a;b","c"\n"1","2"\n', ","),
    ],
)
def test_the_delimiter_is_what_most_rows_agree_on(text: str, delimiter: str) -> None:
    assert find_delimiter(text, ",") == delimiter


def test_excel_s_line_that_names_the_delimiter_is_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sep=;\nx;y\n1;2\n1;2;3\n")
    rows = list(read_rows(tmp_path / "a.csv"))
    assert rows[0].columns == {"x": "1", "y": "2"}
    assert (rows[1].where, rows[1].unreadable) == ("a.csv:4", "has more fields than the header's 2")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "cp1252"])
def test_json_in_another_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    text = '{"a": "größer"}\n{"a": "Tür"}\n'
    (tmp_path / name).write_bytes(
        (f"[{text.strip().replace(chr(10), ',')}]" if name == "a.json" else text).encode(encoding)
    )
    assert [row.columns for row in read_rows(tmp_path / name)] == [{"a": "größer"}, {"a": "Tür"}]


def test_a_given_format_that_is_not_the_file_s_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;y\n1;2\n")
    with pytest.raises(DataError, match=r"its header has ';' between the columns, and data\.delimiter is a tab"):
        list(read_rows(tmp_path / "a.csv", GivenFormat(delimiter="\t")))
    (tmp_path / "b.csv").write_bytes("x,y\nü,2\n".encode("cp1252"))
    assert [row.unreadable for row in read_rows(tmp_path / "b.csv", GivenFormat(encoding="ascii"))] == ["is not ascii"]
    with pytest.raises(DataError, match=r"b\.csv is not utf-16"):
        list(read_rows(tmp_path / "b.csv", GivenFormat(encoding="utf-16")))


@pytest.mark.parametrize("name", ["a.csv", "a.json"])
def test_an_empty_file_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\n")
    with pytest.raises(DataError, match=f"{name} is empty"):
        list(read_rows(tmp_path / name))
