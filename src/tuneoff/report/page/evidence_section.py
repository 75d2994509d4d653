"""The report's tables of tests: what is kept of full fine-tuning's scores, and how each pair of arms differs."""

from __future__ import annotations

from tuneoff.report.chart import Table
from tuneoff.report.comparison import Comparison
from tuneoff.report.kept_table import KEPT_COLUMNS, kept_note, kept_rows
from tuneoff.report.page.section import Section
from tuneoff.report.table import groups_text
from tuneoff.report.wording import p_number
from tuneoff.score.evidence import Evidence, PairedDifference
from tuneoff.score.metrics import Metric, find_metric
from tuneoff.units import NONE

DIFFERENCE_COLUMNS = ("pair", "metric", "difference", "95 % interval", "p", "minimum detectable")


def evidence_sections(comparison: Comparison) -> list[Section]:
    """Both tables, each left out where nothing is judged or compared."""
    evidence = comparison.evidence
    if evidence is None:
        return []
    made = []
    if evidence.non_inferiority:
        words = kept_note(evidence)
        table = Table("Shares of full fine-tuning's scores", KEPT_COLUMNS, kept_rows(evidence), open=True)
        made.append(
            Section("What is kept of full fine-tuning's scores", f"{words[0].upper()}{words[1:]}.", [], [table])
        )
    if evidence.differences:
        rows = [_difference(d, find_metric(d.metric)) for d in evidence.differences]
        table = Table("Differences of all pairs", DIFFERENCE_COLUMNS, rows, open=True)
        made.append(Section("Differences, pair by pair", _words(evidence, comparison), [], [table]))
    return made


def _words(evidence: Evidence, comparison: Comparison) -> str:
    test = "approximate randomization" if len(evidence.seeds) == 1 else "Student's t over the seeds"
    grouped = f" ({groups_text(comparison)}, which are resampled)" if evidence.groups is not None else ""
    return (
        f"The first arm's score less the second's, on the same {comparison.words.examples}{grouped}. p: two-sided test "
        f"of no difference ({test}), adjusted over the pairs of a metric by Holm. Minimum detectable: the true "
        "difference that would be found, after this adjustment, in 80 % of cases."
    )


def _difference(d: PairedDifference, metric: Metric) -> tuple[str, ...]:
    value, low, high = (metric.shown(x, sign=True) for x in (d.difference.value, d.difference.low, d.difference.high))
    detectable = metric.shown(d.detectable) if d.detectable > 0 else NONE
    return f"{d.arm} − {d.other}", metric.label, value, f"[{low}, {high}]", p_number(d.p_holm), detectable
