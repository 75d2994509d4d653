"""The notebook, carried out whole on a few dialogues, and as it is stored."""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path

import nbformat
import pandas
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).parents[1]
STORED = ROOT / "notebooks" / "full_vs_peft.ipynb"
FORKED = f"""import sys
sys.path.append({str(ROOT)!r})
from tests.forked import Subprocess
from tuneoff.runner import process
process.subprocess = Subprocess  # a run's children are forks
"""
FEW = """RECIPE = "demo-small"
SETTINGS = [
    "data.limit={train: 32, validation: 4, test: 8}",
    "training={epochs: 1, examples_per_step: 8, micro_batch: 8}",
    "evaluation.max_new_tokens=16",
    "diagnose={ranks: [4], scales: []}",
]"""


# Cells that take seconds and ask nothing of the run's folder.
WITHOUT_THE_RUN = ("plan", "by-hand", "by-hand-lora", "thin", "lengths", "waste", "generate")


def parameters(notebook: NotebookNode) -> NotebookNode:
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return cell


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """Every cell must succeed, or this raises nbclient's CellExecutionError."""
    folder = tmp_path_factory.getbasetemp() / "notebook"
    folder.mkdir()
    notebook = nbformat.read(STORED, as_version=4)
    parameters(notebook).source = FEW
    notebook.cells.insert(0, new_code_cell(FORKED))
    return _carried_out(notebook, folder)


def _carried_out(notebook: NotebookNode, folder: Path) -> NotebookNode:
    return NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()


def table(cell: NotebookNode) -> pandas.DataFrame:
    """The one table that a cell shows, as its HTML has it."""
    html = "".join(output.data.get("text/html", "") for output in cell.outputs if "data" in output)
    (found,) = pandas.read_html(io.StringIO(html), index_col=0)
    return found


def test_the_last_table_has_every_arm(executed: NotebookNode) -> None:
    last = [cell for cell in executed.cells if cell.cell_type == "code"][-1]
    shown = table(last)
    assert list(shown.index) == ["original", "full", "lora"]
    assert list(shown.columns) == ["trainable", "share", "training", "memory", "rouge1", "rouge2", "rougeL"]
    assert shown.loc["full", "share"] == "100.00%"
    assert shown.loc["original", "training"] == "–"
    assert (shown.rouge1 > 0).all()


def test_its_claims_are_computed(executed: NotebookNode) -> None:
    """The shapes and counts at d = 768, r = 32, by hand: 2 × 32 × 768 of 768² values, of rank 32."""
    cells = {cell.id: cell for cell in executed.cells}
    shapes = table(cells["shapes"])
    of_w = {"W, frozen": "768 × 768", "ΔW = BA": "768 × 768"}
    assert shapes["shape"].to_dict() == {**of_w, "A": "32 × 768", "B": "768 × 32"}
    assert shapes["values"].to_dict() == {"W, frozen": 768**2, "ΔW = BA": 768**2, "A": 24576, "B": 24576}
    assert shapes.loc["ΔW = BA", "rank"] == 32
    assert f"{2 * 32 / 768:.1%} of W's values. ΔW begins at 0." in str(cells["shapes"].outputs)
    products = table(cells["products"])
    assert list(products.loc["full"]) == [1, 2, 3]
    assert 2 < products.loc["lora", "a training step"] < 3
    figures = [cell for cell in executed.cells if "<iframe" in str(cell.get("outputs"))]
    assert len(figures) == 8


def test_it_runs_again_in_the_same_folder(executed: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where all arms have finished: nothing is trained again, and each cell shows the same as before."""
    before = {cell.id: cell for cell in executed.cells}
    again = copy.deepcopy(executed)
    again.cells = [cell for cell in again.cells if cell.id not in WITHOUT_THE_RUN]
    for cell in again.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    after = {cell.id: cell for cell in _carried_out(again, tmp_path_factory.getbasetemp() / "notebook").cells}
    for name in ("rouge-example", "full-scores", "spectrum", "lora-scores", "table"):
        assert table(after[name]).equals(table(before[name])), name
    assert "finished before" in str(after["run-lora"].outputs)


def test_a_step_by_hand_lowers_the_loss(executed: NotebookNode) -> None:
    (cell,) = (cell for cell in executed.cells if cell.id == "by-hand-lora")
    steps = table(cell)
    assert list(steps.index) == ["full", "lora"]
    assert (steps["loss after 2 steps"] < steps["loss before"]).all()
    assert steps.loc["full", "loss before"] == pytest.approx(steps.loc["lora", "loss before"], abs=0.3)  # of dropout
    assert steps.loc["lora", "trainable"] < steps.loc["full", "trainable"] / 3


def test_nothing_is_printed_that_a_reader_must_not_mind(executed: NotebookNode) -> None:
    printed = [
        output for cell in executed.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    assert {output.name for output in printed} == {"stdout"}
    assert "\x1b" not in "".join(output.text for output in printed)


def test_it_is_stored_without_outputs_and_has_five_sections() -> None:
    stored = nbformat.read(STORED, as_version=4)
    nbformat.validate(stored)
    for cell in stored.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    text = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (\d)", text, flags=re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert parameters(stored).source.startswith('RECIPE = "demo-small"')
