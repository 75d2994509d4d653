"""Why a plan cannot be carried out here, and what would make it."""

from __future__ import annotations

from tuneoff.records import Plan

GIB = 2**30


def refusals(plan: Plan) -> list[str]:
    """A line for each arm that is predicted not to fit this machine, with the advice for it."""
    lines = []
    for arm in plan.arms:
        here = next(iter(arm.fits), None)
        if here is None or here.fits != "no":
            continue
        assert arm.process_peak is not None  # since its fit is known
        lines.append(
            f"arm {arm.arm} is predicted to need {arm.process_peak / GIB:.1f} GiB, and {here.device} has "
            f"{here.capacity / GIB:.1f} GiB."
        )
        for advice in here.advice:
            fits = ", which fits" if advice.fits else ""
            lines.append(f"  {advice.change} would need {advice.peak / GIB:.1f} GiB{fits}")
    return lines
