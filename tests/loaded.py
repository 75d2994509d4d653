"""The process that `tests.forked` forks: it imports what every process of a run imports, and waits for requests."""

from __future__ import annotations

import gc
import importlib
import socket
import sys

from tests import forked
from tuneoff.runner import process

LIBRARIES = (
    "datasets",
    "rouge_score.rouge_scorer",
    "transformers.models.llama.modeling_llama",
    "transformers.models.t5.modeling_t5",
    "tuneoff.api",
    "tuneoff.cli.main",
    "tuneoff.data.inputs",
    "tuneoff.planner.plan",
    "tuneoff.runner.evaluation",
    "tuneoff.runner.rehearsal",
    "tuneoff.runner.training",
    "tuneoff.runner.trying",
)

if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    process.subprocess = forked.Subprocess  # type: ignore[assignment]  # a command that is forked forks its children
    gc.collect()
    gc.freeze()  # or every fork would go through, and copy, all objects of the libraries
    forked.serve(socket.socket(fileno=int(sys.argv[1])))
