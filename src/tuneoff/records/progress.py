"""How far a run is, for those who watch it: `progress.json`."""

from __future__ import annotations

from tuneoff.records.base import Record


class Progress(Record):
    """How far a run is. None where it is not known.

    Attributes:
        updated: When this was written, in seconds since 1970.
        running: Whether the run is at work, as far as it has told.
        trial: The number of the trial at work, counted from 1, of `trials` in all; 0 while the run is prepared.
        arm: The arm at work, at `seed`; `rate` is a learning rate that is tried for it.
        phase: What is being done, and of it `done` of `total` (optimizer steps, examples, …).
        loss: The last training loss, in nats per target token.
        tokens_per_second: Tokens of the training examples per second of the last moments.
        device: CPU or GPU, with the share of its time, 0…1, that it works (`device_share`) and the `memory_bytes` that
            the process holds of it.
        phase_seconds_left: How long the phase will take, at the pace of its last moments.
        run_seconds_left: How long the run will take: what is planned for the rest, corrected by how what has been done
            compares with its plan.
    """

    updated: float
    running: bool
    trial: int
    trials: int
    arm: str | None = None
    seed: int | None = None
    rate: float | None = None
    phase: str = ""
    done: int = 0
    total: int = 0
    loss: float | None = None
    tokens_per_second: float | None = None
    device: str = ""
    device_share: float | None = None
    memory_bytes: int | None = None
    phase_seconds_left: float | None = None
    run_seconds_left: float | None = None
