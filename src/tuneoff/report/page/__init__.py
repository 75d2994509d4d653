"""The report: one self-contained HTML page, and the same in short as Markdown."""

from tuneoff.report.page.build import write_report, write_report_of_runs

__all__ = ["write_report", "write_report_of_runs"]
