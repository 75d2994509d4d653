"""The frozen records that a run leaves, and their JSON. Bytes, seconds and counts; docs/results.md explains each."""

from tuneoff.records.base import Record, read_text
from tuneoff.records.checks import Agreement, Checks, Moved
from tuneoff.records.diagnosis import Diagnosis, MatrixDiagnosis, Overlap
from tuneoff.records.gguf import GgufFile
from tuneoff.records.history import read_history
from tuneoff.records.interval import Interval
from tuneoff.records.losses import RetainedMark, UpdateLosses, VariantLosses
from tuneoff.records.plan import Advice, Fit, Plan, PlannedArm, PlannedStep, Range
from tuneoff.records.predictions import Prediction, read_predictions
from tuneoff.records.progress import Progress
from tuneoff.records.run import FREE_OF_TRAINING, ChatFrame, ChosenEngine, Floor, Resolved, RunMark, SplitStatistics
from tuneoff.records.times import BUSY, PartTime, read_times
from tuneoff.records.trial import (
    Failure,
    FailureKind,
    KeptStep,
    MachineLoad,
    Memory,
    Parameters,
    PhaseMemory,
    Retained,
    Score,
    Scores,
    Trained,
    TrialResult,
)
from tuneoff.records.tuning import Try, Tuning, ValidationLoss, read_validation

__all__ = [
    "BUSY",
    "FREE_OF_TRAINING",
    "Advice",
    "Agreement",
    "ChatFrame",
    "Checks",
    "ChosenEngine",
    "Diagnosis",
    "Failure",
    "FailureKind",
    "Fit",
    "Floor",
    "GgufFile",
    "Interval",
    "KeptStep",
    "MachineLoad",
    "MatrixDiagnosis",
    "Memory",
    "Moved",
    "Overlap",
    "Parameters",
    "PartTime",
    "PhaseMemory",
    "Plan",
    "PlannedArm",
    "PlannedStep",
    "Prediction",
    "Progress",
    "Range",
    "Record",
    "Resolved",
    "Retained",
    "RetainedMark",
    "RunMark",
    "Score",
    "Scores",
    "SplitStatistics",
    "Trained",
    "TrialResult",
    "Try",
    "Tuning",
    "UpdateLosses",
    "ValidationLoss",
    "VariantLosses",
    "read_history",
    "read_predictions",
    "read_text",
    "read_times",
    "read_validation",
]
