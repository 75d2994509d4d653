"""Charts and tables as files."""

from __future__ import annotations

import csv
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.report.made import made_run
from tuneoff.errors import ExportError
from tuneoff.folder import RunFolder
from tuneoff.report.comparison import compare
from tuneoff.report.figure_files import write_figures

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return made_run(tmp_path / "run")


def test_a_chart_is_an_image_of_its_own(run: RunFolder, tmp_path: Path) -> None:
    paths = {path.stem: path for path in write_figures(run, tmp_path / "figures", "svg")}
    assert len(paths) == 15 + 3 + 1 + 1 + 1 + 3
    drawing = ET.parse(paths["rouge-1-against-training-time"]).getroot()
    assert (drawing.tag, drawing.get("width"), drawing.get("height")) == (f"{SVG}svg", "420.0", "300.0")
    style = drawing.findtext(f"{SVG}style") or ""
    assert "var(" not in style and ".c1 { fill: #c2410c; }" in style
    assert {"full", "lora"} <= {text.text for text in drawing.iter(f"{SVG}text")}


def test_a_png_is_of_the_drawing_at_twice_its_size(run: RunFolder, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    paths = {path.stem: path for path in write_figures(run, tmp_path / "figures", "png")}
    content = paths["rouge-1-against-training-time"].read_bytes()
    assert content.startswith(b"\x89PNG")
    assert [int.from_bytes(content[at : at + 4], "big") for at in (16, 20)] == [840, 600]


def test_without_the_renderer_the_extra_is_named(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ExportError, match=r"pip install 'tuneoff\[png\]'"):
        write_figures(run, tmp_path / "figures", "png")


def test_tables_have_the_numbers_in_full(run: RunFolder, tmp_path: Path) -> None:
    paths = {path.stem: path for path in write_figures(run, tmp_path / "figures", "csv")}
    found, _ = compare(run)
    assert found.evidence is not None
    with paths["arms"].open(newline="", encoding="utf-8") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["original", "full", "lora"]
    mean = found.evidence.means["lora"]["rouge1"]
    assert [float(rows["lora"][f"rouge1{end}"]) for end in ("", "_low", "_high")] == [mean.value, mean.low, mean.high]
    assert (rows["lora"]["trainable"], rows["original"]["train_seconds"]) == ("3538944", "")
    with paths["differences"].open(newline="", encoding="utf-8") as file:
        differences = list(csv.DictReader(file))
    assert len(differences) == 9  # three pairs by three metrics
    assert float(differences[0]["p_holm"]) == found.evidence.differences[0].p_holm
