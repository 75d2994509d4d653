"""The model card of an export: what it is, what was measured, and code that uses it."""

from tuneoff.report.card.build import model_card
from tuneoff.report.card.records import Difference, Exported, ReadBack, Verification
from tuneoff.report.card.usage import Usage, usage_code

__all__ = ["Difference", "Exported", "ReadBack", "Usage", "Verification", "model_card", "usage_code"]
