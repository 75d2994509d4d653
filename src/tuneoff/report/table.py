"""A comparison on the terminal, at 80 columns: the table, the verdict, samples side by side, where everything lies."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import stdev

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tuneoff.folder import RunFolder
from tuneoff.report.checking import checks_text
from tuneoff.report.comparison import Comparison, Sample
from tuneoff.report.cost_table import COST_COLUMNS, cost_notes, cost_rows
from tuneoff.report.forgotten import texts_words
from tuneoff.report.kept import kept_notes
from tuneoff.report.kept_table import KEPT_COLUMNS, kept_note, kept_rows
from tuneoff.report.rows import ArmRow
from tuneoff.report.tuning import optima_texts, tuning_text
from tuneoff.report.verdict import verdict
from tuneoff.score.metrics import Metric, find_metric, find_metrics
from tuneoff.units import NONE, count_text

INPUT_LINES = 8
FORGOT = "forgot"
AGAIN = 2  # sentences of the verdict that are the last lines, too


def print_comparison(comparison: Comparison, folder: RunFolder, console: Console) -> None:
    """The whole of what `tuneoff run` and `tuneoff show` print."""
    console.print(_table(comparison))
    _print_notes(notes(comparison), console)
    if any(row.seeds for row in comparison.arms):
        console.print()
        console.print(_cost_table(comparison))
        _print_notes(cost_notes(comparison), console)
    kept = kept_rows(comparison.evidence)
    if kept and comparison.evidence is not None:
        console.print()
        console.print(_kept_table(kept))
        _print_notes([kept_note(comparison.evidence)], console)
    sentences = verdict(comparison)
    for sentence in sentences:
        console.print()
        console.print(Text(sentence))
    for number, sample in enumerate(comparison.samples, start=1):
        console.print()
        console.print(_sample(sample, comparison.words.example, number))
    console.print()
    console.print(_places(comparison, folder), soft_wrap=True)
    for sentence in sentences[:AGAIN]:  # since they have scrolled away
        console.print(Text(f"\n{sentence}", style="bold"))


def _print_notes(lines: list[str], console: Console) -> None:
    for line in lines:
        console.print(Padding(Text(line), (0, 0, 0, 1)))


def _empty(headers: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    table.add_column(headers[0], overflow="fold", max_width=16)
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _cost_table(comparison: Comparison) -> Table:
    table = _empty([header.replace(" peak", "\npeak") for header in COST_COLUMNS])
    for cells in cost_rows(comparison):
        table.add_row(*cells)
    return table


def _kept_table(rows: list[list[str]]) -> Table:
    table = _empty(KEPT_COLUMNS)
    for cells in rows:
        table.add_row(*cells)
    return table


def _table(comparison: Comparison) -> Table:
    table = _empty(table_columns(comparison))
    for row in comparison.arms:
        table.add_row(*table_cells(row, comparison), style=None if row.seeds else "bold red" if row.failures else "dim")
    for cells in floor_cells(comparison):
        table.add_row(*cells, style="dim")
    return table


def table_columns(comparison: Comparison) -> list[str]:
    """The heads of the table of scores."""
    scores = [metric.short for metric in find_metrics(comparison.metrics)]
    return ["arm", "trainable", "share", *scores, *([FORGOT] if comparison.forgotten is not None else [])]


def table_cells(row: ArmRow, comparison: Comparison) -> list[str]:
    """An arm's figures, under `table_columns`."""
    if not row.seeds:
        state = "failed" if row.failures else "to do"
        return [row.arm, state, *[NONE] * (len(table_columns(comparison)) - 2)]
    parameters, scores = row.parameters, row.scores or {}
    assert parameters is not None
    return [
        row.arm,
        count_text(parameters.trainable),
        f"{100 * parameters.trainable / parameters.total:.2f}%",
        *(metric.shown(scores[metric.name]) for metric in find_metrics(comparison.metrics)),
        *_forgot(row, comparison),
    ]


def _forgot(row: ArmRow, comparison: Comparison) -> list[str]:
    """How much an arm's loss on the retained texts has risen, in the column for it, if there is one."""
    found = comparison.forgotten
    if found is None:
        return []
    known = row.arm in found.evidence.means and row.arm != found.original
    return [f"{found.change(row.arm).difference.value:+.3f}" if known else NONE]


def floor_cells(comparison: Comparison) -> list[list[str]]:
    """The scores of texts that no model wrote, under `table_columns`; nothing before an arm has finished."""
    if not any(row.seeds for row in comparison.arms):
        return []
    metrics = find_metrics(comparison.metrics)
    return [
        [
            floor.name,
            NONE,
            NONE,
            *(metric.shown(floor.scores[metric.name]) if metric.name in floor.scores else NONE for metric in metrics),
            *([NONE] if comparison.forgotten is not None else []),
        ]
        for floor in comparison.floors
    ]


def _floor_notes(comparison: Comparison) -> list[str]:
    """What the rows are that belong to no arm."""
    explained = {
        "first sentences": "the input's first sentences, as many as have a reference's words",
        "always the same": "the most frequent reference, whatever the input",
        "one reference": "each reference as an answer to the others",
    }
    shown = [cells[0] for cells in floor_cells(comparison)]
    told = "; ".join(f"{name}: {explained[name]}" for name in shown)
    return [f"not written by a model: {told}"] if told else []


def notes(comparison: Comparison) -> list[str]:
    """What the table's figures are, and what else must be known of them."""
    notes = []
    if comparison.examples:
        notes.append(
            f"{_explained(comparison)} on {comparison.examples:,} {comparison.words.examples}{_references(comparison)}"
        )
    if comparison.evidence is not None and comparison.evidence.groups is not None:
        notes.append(f"{groups_text(comparison)}: intervals and tests resample groups")
    if comparison.forgotten is not None:
        texts = texts_words(comparison.forgotten.texts)
        notes.append(f"{FORGOT}: how many nats per token the loss has risen on {texts}")
    notes += _floor_notes(comparison)
    notes += _asked(comparison)
    notes += comparison.originals
    notes += [f"{row.arm}, {failure}" for row in comparison.arms for failure in row.failures]
    for row in comparison.arms:
        if row.empty_outputs or row.truncated_outputs:
            empty = f"{row.empty_outputs} empty {comparison.words.outputs}"
            notes.append(f"{row.arm}: {empty}, {row.truncated_outputs} cut off at max_new_tokens")
    evidence = comparison.evidence
    if evidence is not None and len(evidence.seeds) > 1:
        judged = find_metric(comparison.metrics[0])
        by_seed = {arm: means[judged.name] for arm, means in evidence.by_seed.items()}
        notes += [_by_seed(arm, judged, means) for arm, means in by_seed.items() if len(set(means)) > 1]
    notes += [f"{tuning.arm}: {tuning_text(tuning)}" for tuning in comparison.tuning]
    notes += kept_notes(comparison.arms)
    notes += optima_texts(comparison.optima)
    checks = checks_text(comparison.arms)
    if checks is not None:
        notes.append(checks)
    notes += [f"warning: {warning}" for warning in comparison.warnings]
    if comparison.unfinished:
        notes.append(f"not finished: {', '.join(comparison.unfinished)}")
    return notes


def groups_text(comparison: Comparison) -> str:
    """`357 dialogues in 208 groups by 'scene'`."""
    evidence = comparison.evidence
    assert evidence is not None
    examples = f"{evidence.examples:,} {comparison.words.examples}"
    return f"{examples} in {evidence.groups:,} groups by {comparison.group!r}"


def _asked(comparison: Comparison) -> list[str]:
    """How the model is asked, where it is not by a prompt alone."""
    if comparison.layout is not None:
        by = "by the model's own chat template" if comparison.chat else "as plain text"
        return [f"conversations as {comparison.layout}, asked {by}"]
    return ["asked by the model's own chat template: the prompt is the user's turn"] if comparison.chat else []


def _explained(comparison: Comparison) -> str:
    """What the figures of the table are."""
    return "; ".join(dict.fromkeys(metric.explained for metric in find_metrics(comparison.metrics)))


def _references(comparison: Comparison) -> str:
    """How many references an example has, and how its figures come from them; nothing where it has one."""
    if comparison.references == comparison.examples:
        return ""
    metrics = find_metrics(comparison.metrics)
    rules = {metric.several for metric in metrics}
    of_all = f"{(comparison.references or 0) / (comparison.examples or 1):.3g}"
    if len(rules) == 1:
        return f" × {of_all} references ({rules.pop()})"
    best = ", ".join(metric.label for metric in metrics if metric.several == "best")
    return f" × {of_all} references (mean; {best}: best)"


def _sample(sample: Sample, noun: str, number: int) -> RenderableType:
    lines = sample.input.splitlines()
    shown = lines[:INPUT_LINES]
    if len(lines) > INPUT_LINES:
        more = len(lines) - INPUT_LINES
        shown.append(f"… ({more} more line{'s' if more > 1 else ''})")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True, max_width=16)
    grid.add_column(overflow="fold")
    for position, reference in enumerate(sample.references):
        grid.add_row("reference" if position == 0 else "", Text(reference, style="green"))
    for arm, prediction in sample.predictions.items():
        grid.add_row(arm, Text(prediction or "(empty)"))
    return Group(
        Text(f"── {noun} {number}: {sample.id}", style="bold"),
        Padding(Text("\n".join(shown), style="dim"), (0, 0, 0, 2)),
        Padding(grid, (0, 0, 0, 2)),
    )


def _places(comparison: Comparison, folder: RunFolder) -> Text:
    text = Text(f"run        {folder.path}\n")
    for row in comparison.arms:
        if row.seeds and row.method != "none":
            text.append(f"{row.arm:<10} {folder.trial(row.arm, row.seeds[0]).model}\n")
    text.append(f"figures    {folder.comparison}")
    if folder.report.is_file():
        text.append(f"\nreport     {folder.report}")
    return text


def _by_seed(arm: str, metric: Metric, means: list[float]) -> str:
    """How an arm's seeds differ: apart from how its examples do."""
    values = ", ".join(metric.shown(mean) for mean in means)
    return f"{arm}: {metric.label} by seed {values} (standard deviation {metric.shown(stdev(means))})"
