"""What `tuneoff generate` reads."""

from __future__ import annotations

import json
from codecs import BOM_UTF8

import pytest

from tuneoff.errors import DataError
from tuneoff.use.rows import read_given

COLUMNS = ["instruction", "input"]


def rows(*lines: bytes) -> list[dict[str, str]]:
    return [given.columns for given in read_given(lines, "a.jsonl", COLUMNS, "instruction")]


@pytest.mark.parametrize("mark", [b"", BOM_UTF8, BOM_UTF8 + b"  "])
def test_a_byte_order_mark_makes_no_text_of_jsonl(mark: bytes) -> None:
    lines = [mark + b'{"instruction": "a", "input": "b"}\n', b'{"instruction": "c", "input": "d"}\n']
    assert rows(*lines) == [{"instruction": "a", "input": "b"}, {"instruction": "c", "input": "d"}]


@pytest.mark.parametrize("more", [{}, {"input": ""}, {"input": None}])
def test_columns_besides_the_input_may_be_empty(more: dict[str, str | None]) -> None:
    row = {"instruction": "a", **more}
    assert rows(json.dumps(row).encode()) == [row]


@pytest.mark.parametrize("row", [{"input": "b"}, {"instruction": " ", "input": "b"}, {"instruction": "a", "input": 3}])
def test_other_rows_are_refused(row: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1 has no text in"):
        rows(json.dumps(row).encode())
