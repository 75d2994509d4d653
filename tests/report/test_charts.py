from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from tuneoff.records import Interval
from tuneoff.report.chart import Table
from tuneoff.report.charts import Cost, against_cost
from tuneoff.report.side_by_side import marked
from tuneoff.report.svg import Axis, Drawing, around
from tuneoff.score.metrics import find_metric


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_few_and_inside(low: float, size: float) -> None:
    axis = Axis(low, low + size, 0, 100)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    slack = size * 1e-6
    assert all(low - slack <= tick <= low + size + slack for tick in ticks)
    steps = [b - a for a, b in pairwise(ticks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.3, 0.42, [0.3, 0.35, 0.4]), (18, 23, [18, 19, 20, 21, 22, 23])],
)
def test_ticks_by_hand(low: float, high: float, expected: list[float]) -> None:
    assert Axis(low, high, 0, 1).ticks() == pytest.approx(expected)


def test_a_logarithmic_axis() -> None:
    axis = around([3.5e6, 2.5e8], 0, 100, log=True)
    assert axis.ticks() == [1e7, 1e8]
    assert axis.at(1e8) - axis.at(1e7) == pytest.approx(100 / (2.408 + 1.854 - 2), rel=0.2)


def test_a_logarithmic_axis_within_a_power_of_ten_has_ticks_all_the_same() -> None:
    assert around([2.06e6, 7.8e6], 0, 100, log=True).ticks() == [2e6, 5e6, 1e7]


@pytest.mark.parametrize(("costs", "sides"), [([10.0, 100.0], "se"), ([92.0, 100.0], "es"), ([100.0, 92.0], "se")])
def test_names_of_neighbours_do_not_meet(costs: list[float], sides: str) -> None:
    score = Interval(value=0.3, low=0.2, high=0.4)
    drawn = against_cost(
        [Cost(f"arm {n}", n, cost, score) for n, cost in enumerate(costs)], find_metric("rouge1"), "memory", str, 1.0
    )
    assert "".join(re.findall(r'text-anchor="(\w)\w*">arm \d</text>', drawn.drawing)) == sides


def test_an_axis_of_one_value_has_room() -> None:
    axis = around([5.0], 0, 100)
    assert axis.low < 5 < axis.high


def test_text_in_a_drawing_is_inert() -> None:
    drawing = Drawing(10, 10, "<t>")
    drawing.text(0, 0, "<script>", "a")
    assert "<script>" not in drawing.markup()
    assert "&lt;script&gt;" in drawing.markup()


def test_shared_words_are_marked_in_runs() -> None:
    assert marked("The old, grey cat sat.", ["an OLD grey dog", "sat"]) == (
        "The <mark>old, grey</mark> cat <mark>sat</mark>."
    )
    assert marked("", ["x"]) == ""


@given(st.text(), st.text())
def test_marks_change_nothing_but_marks(text: str, reference: str) -> None:
    assert str(marked(text, [reference])).replace("<mark>", "").replace("</mark>", "") == str(escape(text))


def test_a_chart_tells_its_figures_and_has_them_as_a_table() -> None:
    points = [
        Cost("full", 0, 300.0, Interval(value=0.4, low=0.35, high=0.45)),
        Cost("lora", 1, 100.0, Interval(value=0.39, low=0.34, high=0.44)),
    ]
    chart = against_cost(points, find_metric("rouge1"), "training time", "{:.0f} s".format, 1.0)
    assert chart.table.rows == [
        ("full", "300 s", "40.00", "[35.00, 45.00]"), ("lora", "100 s", "39.00", "[34.00, 44.00]"),
    ]  # fmt: skip
    assert (
        'aria-label="ROUGE-1 against training time. full: training time 300 s, ROUGE-1 40.00, 95 % interval '
        '[35.00, 45.00]; lora: training time 100 s, ROUGE-1 39.00, 95 % interval [34.00, 44.00]"'
    ) in chart.drawing


def test_of_a_long_table_the_first_rows_are_told() -> None:
    table = Table("t", ["arm", "x"], [(f"a{n}", str(n)) for n in range(14)])
    assert table.told.endswith("a11: x 11; and 2 more rows in the table")
