"""Whether trials were carried out alike: ratios of time and memory between unlike ones are not of the methods alone."""

from __future__ import annotations

from collections.abc import Sequence

from tuneoff.records import Record, TrialResult
from tuneoff.report.arms import Arm

DEVICE = ("device", "device_name", "threads")


class Unlike(Record):
    """A field of the environment in which arms differ: its name, and what each finished arm has."""

    field: str
    values: dict[str, str]


def differing(arms: Sequence[Arm]) -> list[Unlike]:
    """The fields in which the trials of finished arms differ: engine, precision, device, threads, versions."""
    by_arm = {arm.name: [environment_of(result) for result in arm.done.values()] for arm in arms if arm.done}
    fields = dict.fromkeys(field for found in by_arm.values() for one in found for field in one)
    unlike = []
    for field in fields:
        values = {
            arm: " or ".join(dict.fromkeys(one[field] for one in found if field in one))
            for arm, found in by_arm.items()
        }
        known = {arm: value for arm, value in values.items() if value}
        if len(set(known.values())) > 1 or any(" or " in value for value in known.values()):
            unlike.append(Unlike(field=field, values=known))
    return unlike


def environment_of(result: TrialResult) -> dict[str, str]:
    """What a trial's time and memory depend on besides its method. What was not recorded is left out."""
    trained = result.training.environment if result.training is not None else None
    environment = trained or result.environment or {}
    found = {
        "engine": result.engine,
        "precision": (result.precision or "").partition(":")[0],
        **{name: environment.get(name) for name in DEVICE},
        **environment.get("packages", {}),
        **environment.get("settings", {}),
    }
    return {name: str(value) for name, value in found.items() if value}


def unlike_fields(one: TrialResult, other: TrialResult) -> list[str]:
    """The fields in which two trials differ, as far as both have recorded them."""
    first, second = environment_of(one), environment_of(other)
    return [name for name in first if name in second and first[name] != second[name]]


def unlike_text(unlike: Sequence[Unlike]) -> str | None:
    """One sentence on what differs; None where all trials are alike."""
    if not unlike:
        return None
    shown = ", ".join(f"{one.field} ({_by_value(one)})" for one in unlike)
    return f"not all arms ran alike: {shown}: ratios of time and memory between them are not of the methods alone"


def unlike_sentence(unlike: Sequence[Unlike]) -> str:
    """`unlike_text` as a sentence to follow others; empty where all trials are alike."""
    text = unlike_text(unlike)
    return f" {text[0].upper()}{text[1:]}." if text is not None else ""


def pair_text(fields: Sequence[str], unlike: Sequence[Unlike], arm: str, other: str) -> str:
    """What differs between two arms, in brackets to follow a ratio; empty where nothing does."""
    values = {one.field: one.values for one in unlike}
    shown = [
        f"{field} ({values[field].get(arm, 'none')} and {values[field].get(other, 'none')})"
        for field in fields
        if field in values
    ]
    return f" (unlike in {', '.join(shown)})" if shown else ""


def _by_value(one: Unlike) -> str:
    groups: dict[str, list[str]] = {}
    for arm, value in one.values.items():
        groups.setdefault(value, []).append(arm)
    return "; ".join(f"{' and '.join(arms)}: {value}" for value, arms in groups.items())
