"""Why a plan cannot be carried out here, and what would make it."""

from __future__ import annotations

from tuneoff.records import Plan
from tuneoff.units import bytes_text


def refusals(plan: Plan) -> list[str]:
    """A line for each arm that is predicted not to fit this machine, with the advice for it."""
    lines = []
    for arm in plan.arms:
        here = next(iter(arm.fits), None)
        if here is None or here.fits != "no":
            continue
        assert arm.process_peak is not None  # since its fit is known
        lines.append(
            f"arm {arm.arm} is predicted to need {bytes_text(arm.process_peak)}, and {here.device} has "
            f"{bytes_text(here.capacity)}."
        )
        for advice in here.advice:
            fits = ", which fits" if advice.fits else ""
            lines.append(f"  {advice.change} would need {bytes_text(advice.peak)}{fits}")
    return lines
