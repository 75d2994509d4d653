"""What the cheaper arms keep of full fine-tuning's scores, by every metric, as a table."""

from __future__ import annotations

from tuneoff.report.verdict import margin_text
from tuneoff.report.wording import p_number
from tuneoff.score.evidence import Evidence
from tuneoff.score.metrics import find_metric

KEPT_COLUMNS = ("arm", "of", "metric", "keeps", "95 % interval", "p", "shown")


def kept_rows(evidence: Evidence | None) -> list[list[str]]:
    """The cells under `KEPT_COLUMNS`: a row for each arm, baseline and metric; none where nothing is judged."""
    rows = []
    for judged in evidence.non_inferiority if evidence is not None else []:
        low, high = (f"{100 * end:.1f}" for end in (judged.kept.low, judged.kept.high))
        shown = "yes" if judged.holds else "no: it loses more" if judged.misses else "no"
        metric = find_metric(judged.metric).label
        kept = f"{100 * judged.kept.value:.1f} %"
        rows.append([judged.arm, judged.baseline, metric, kept, f"[{low}, {high}]", p_number(judged.p_holm), shown])
    return rows


def kept_note(evidence: Evidence) -> str:
    """What the table says, and by which test."""
    first = evidence.non_inferiority[0]
    units = "examples" if evidence.groups is None else "groups of examples"
    how = f"bootstrap over {units}" if len(evidence.seeds) == 1 else f"over seeds and {units}"
    return (
        f"keeps: the arm's score as a share of full fine-tuning's; shown: whether it is shown to be within the "
        f"{margin_text(first, find_metric(first.metric))}, by a one-sided test of non-inferiority ({how}; p adjusted "
        "over the arms of a metric by Holm). The p of the differences is another test's: two-sided, of no difference "
        "at all"
    )
