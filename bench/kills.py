"""Is a run that was killed, however and whenever, bitwise the run that was not?

    python bench/kills.py [--kills 1000] [--seconds 3600] [--cases t5 llama …] [--seed 0] [--json FILE]

Each try takes a run of tiny models, kills it up to fifteen times, lets it go on each time with the same command, and
compares what it leaves with an undisturbed run: weights, adapter settings, texts, scores, history, and the search for a
learning rate. It is killed at one of the changes that a child makes to the disk (before it is made), or at a random
moment: the child, the parent or both; by SIGKILL, by SIGTERM or by Ctrl-C twice. Counted are kills that hit: one that
came when the run had ended is none.

Parents and children are forks of this process (forked_runs.py). Nine runs of ten begin with what was prepared once,
where an empty plan stands for the computed one; the tenth begins with an empty folder, and computes it. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from forked_runs import AFTER_SECONDS, AT_CHANGE, Kill, be_ready, begin, exit_status, kill
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, trials
from tuneoff.records import Plan

T5 = {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2,
      "feed_forward_proj": "gated-gelu"}  # fmt: skip
LLAMA = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip
FULL = {"method": "full", "learning_rate": 1e-2}
LORA = {"method": "lora", "learning_rate": 5e-3, "r": 2, "lora_dropout": 0.1}
ADALORA = {"method": "adalora", "learning_rate": 1e-2, "init_r": 4, "target_r": 2, "tinit": 2, "tfinal": 3, "deltaT": 1,
           "target_modules": ["q", "v"]}  # fmt: skip
TUNED = {**LORA, "learning_rate": None, "target_modules": ["q", "v"], "tune": {"learning_rate": [1e-3, 5e-3]}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[int]]] = {
    "t5": (T5, {"full": FULL, "lora": {**LORA, "target_modules": ["q", "v"]}}, [0]),
    "llama": (LLAMA, {"full": FULL, "lora": {**LORA, "target_modules": ["q_proj", "v_proj"]}}, [0]),
    "adalora": (T5, {"adalora": ADALORA}, [0]),
    "tune": (T5, {"lora": TUNED}, [0]),
    "seeds": (T5, {"full": FULL}, [0, 1]),
}
EXAMPLES_PER_STEP = 4
TIMES = (5, 15)  # how often a run is killed, at most


def recipe_of(case: str) -> Recipe:
    config, arms, seeds = CASES[case]
    return Recipe.model_validate(
        {
            "model": {"config": config, "tokenizer": {"vocab_size": 300}},
            "data": {
                "source": "builtin:everyday", "input": "dialogue", "target": "summary", "max_source_length": 64,
                "max_target_length": 24, "limit": {"train": 16, "validation": 6, "test": 4},
            },
            "prompt": "{dialogue}",
            "arms": arms,
            "training": {
                "epochs": 2, "examples_per_step": EXAMPLES_PER_STEP, "precision": "fp32", "checkpoint_minutes": 1e-5,
                "tune_steps": 3,
            },
            "evaluation": {"max_new_tokens": 6, "batch_size": 2},
            "seeds": seeds,
        }
    )  # fmt: skip


def draw(chance: random.Random, seconds: float, changes: list[int]) -> list[Kill]:
    """Kills of a run that takes so many seconds undisturbed, in which each child makes so many changes.

    The more they are, the sooner each comes after the run has gone on, so that the last ones still find it at work.
    """
    times = chance.choice(TIMES)
    share = 2 / times
    kills = []
    for _ in range(times):
        if chance.random() < 0.5:
            number, change = 0, chance.randint(1, int(share * sum(changes)))
            while change > changes[number]:
                change -= changes[number]
                number += 1
            kills.append(Kill(chance.choice(AT_CHANGE), child=number + 1, change=change))
        else:
            kills.append(Kill(chance.choice(AFTER_SECONDS), after=chance.uniform(0, share * seconds)))
    return kills


def left(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """What a finished run leaves that must be the same: files as text or bytes, without places and seconds."""
    found: dict[str, Any] = {}
    run = RunFolder(folder)
    for trial in trials(recipe):
        own = run.trial(trial.arm, trial.seed)
        result = json.loads(own.result.read_text())
        found[f"{trial} scores"] = result["scores"]
        found[f"{trial} loss"] = result["training"]["final_loss"]
        found[f"{trial} texts"] = own.predictions.read_text()
        lines = map(json.loads, own.history.read_text().splitlines())
        found[f"{trial} history"] = [{k: v for k, v in line.items() if k != "train_seconds"} for line in lines]
        for path in sorted(own.model.rglob("*")):
            found[f"{trial} {path.name}"] = path.read_bytes().replace(str(folder).encode(), b"RUN")
        tuning = run.tuning(trial.arm)
        if tuning.is_file():
            tries = json.loads(tuning.read_text())["tries"]
            found[f"{trial} tuning"] = [(t["learning_rate"], t["validation_loss"]) for t in tries]
    return found


class Case:
    """A recipe, a run of it that is prepared, and what an undisturbed one leaves after how many seconds."""

    def __init__(self, name: str, work: Path) -> None:
        self.name, self.recipe, self._work = name, recipe_of(name), work
        self._prepared, whole, tally = work / f"{name}-prepared", work / f"{name}-whole", work / f"{name}-tally"
        no_plan = Plan(device="CPU", precision="fp32", libraries=0, micro_batch=EXAMPLES_PER_STEP, steps=0, arms=[])
        with patch("tuneoff.planner.plan.make_plan", return_value=no_plan):
            if not kill(self.recipe, self._prepared, Kill("change, both", child=2, change=1)):
                raise RuntimeError("the run that should be prepared, and no more, has ended")
        shutil.rmtree(self._prepared / "trials")
        shutil.copytree(self._prepared, whole)
        began = time.monotonic()
        os.environ["TALLY"] = str(tally)
        self._finish(whole)
        del os.environ["TALLY"]
        self.seconds = time.monotonic() - began
        self.changes = [int(line) for line in tally.read_text().split()]
        self._whole = left(self.recipe, whole)

    def attempt(self, number: int, chance: random.Random) -> tuple[list[Kill], list[str]]:
        """Kill a run, again and again, and let it end. Returns how, and what differs from an undisturbed run."""
        folder = self._work / f"{self.name}-{number}"
        if chance.random() < 0.9:
            shutil.copytree(self._prepared, folder)
        kills = list(takewhile(partial(kill, self.recipe, folder), draw(chance, self.seconds, self.changes)))
        self._finish(folder)
        found = left(self.recipe, folder)
        shutil.rmtree(folder)
        return kills, [key for key in {**self._whole, **found} if self._whole.get(key) != found.get(key)]

    def _finish(self, folder: Path) -> None:
        status = exit_status(begin(self.recipe, folder))
        if status:  # a trial that failed (its child was killed) is carried out again
            status = exit_status(begin(self.recipe, folder))
        if status:
            told = folder.parent / f"{folder.name}.error"
            raise RuntimeError(f"{folder.name} ends with {status}: {told.read_text() if told.exists() else ''}")


def tries(cases: list[str], seed: int, work: Path, cache: Path | None) -> Iterator[tuple[str, list[Kill], list[str]]]:
    """Try after try, the cases in turn, for ever: the case, how it was killed, and what differs."""
    os.environ["XDG_CACHE_HOME"] = str(cache or work / "cache")
    be_ready()
    made = [Case(name, work) for name in cases]
    chance = random.Random(seed)
    number = 0
    while True:
        for case in made:
            number += 1
            yield case.name, *case.attempt(number, chance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no further run is begun")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="compiled kernels and tokens, to be used again (default: a new one)")
    parser.add_argument("--json", type=Path, help="where the kills and what differed go")
    arguments = parser.parse_args()
    kills: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    differed: list[dict[str, Any]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        for case, how, different in tries(arguments.cases, arguments.seed, Path(work), arguments.cache):
            runs[case] += 1
            kills.update(one.kind for one in how)
            if different:
                differed.append({"case": case, "kills": [vars(one) for one in how], "differs": different})
                print(f"{case}, {how}: {', '.join(different)}", file=sys.stderr, flush=True)
            if kills.total() >= arguments.kills or time.monotonic() - began > arguments.seconds:
                break
    print(f"{kills.total()} kills in {runs.total()} runs, {time.monotonic() - began:.0f} s")
    print("kills:", ", ".join(f"{count} {kind}" for kind, count in kills.most_common()))
    print("runs:", ", ".join(f"{count} {case}" for case, count in runs.items()))
    print(f"runs that left something else than the undisturbed one: {len(differed)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"kills": kills, "runs": runs, "differed": differed}, indent=2) + "\n")
    sys.exit(1 if differed else 0)


if __name__ == "__main__":
    main()
