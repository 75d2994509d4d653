"""What becomes of a run whose files are damaged? Every file, in every way, and then every command.

    python bench/damage.py [--seconds 600] [--tries 1000] [--seed 0] [--json FILE]

Each file of a finished run, and of one that was killed half-way, is cut short, emptied, changed by a bit, filled with
what is no text, deleted, or replaced by a folder, which no user can read as a file. Then `show`, `report`, `generate`,
`serve` (until it would listen), `export` and `run` (which goes on) are tried, each on a copy, in a process of its own.
Counted is how each ends: as if nothing were wrong, in an error of tuneoff's (one line), with a failed trial (told), or
in what is a traceback to the user. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from forked_runs import Kill, Quiet, Subprocess, be_ready, begin, exit_status, kill
from kills import recipe_of
from tuneoff.errors import TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.report.comparison import compare
from tuneoff.report.page import write_report
from tuneoff.runner import process
from tuneoff.runner.finished import Finished
from tuneoff.runner.run import Run
from tuneoff.use.export import export as export_arm
from tuneoff.use.serve import Limits, choose_arms, load_server
from tuneoff.use.writer import Writer


def _flipped(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return content
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


FOLDER = "a folder"
WAYS: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "cut short": lambda content, _: content[: len(content) // 2],
    "emptied": lambda *_: b"",
    "a bit changed": _flipped,
    "no text": lambda content, chance: bytes(chance.randrange(128, 256) for _ in content[:1000]),
    "deleted": lambda *_: None,
    FOLDER: lambda *_: None,
}
FINE, TOLD, FAILED, TRACEBACK = "as if nothing were wrong", "one line", "a failed trial", "a traceback"


def show(folder: Path) -> bool:
    compare(RunFolder(folder))
    return True


def report(folder: Path) -> bool:
    write_report(RunFolder(folder))
    return True


def generate(folder: Path) -> bool:
    Writer(Finished(RunFolder(folder), "lora")).write([{"dialogue": "#Person1#: Hello!"}])
    return True


def serve(folder: Path) -> bool:
    load_server(choose_arms(RunFolder(folder), []), Limits())
    return True


def export(folder: Path) -> bool:
    to = folder.parent / "exported"
    shutil.rmtree(to, ignore_errors=True)
    export_arm(RunFolder(folder), "lora", to, "merged", Quiet())  # type: ignore[arg-type]
    return True


def run(folder: Path) -> bool:
    process.subprocess = Subprocess()  # type: ignore[assignment]
    return Run(recipe_of("t5"), RunFolder(folder), Quiet(), True).carry_out()  # type: ignore[arg-type]


COMMANDS = {"show": show, "report": report, "generate": generate, "serve": serve, "export": export, "run": run}


def ends(command: Callable[[Path], bool], folder: Path) -> tuple[str, str]:
    """How a command ends on this folder, and what it says. In a fork, which may die."""
    told = folder.parent / "told"
    told.write_text("died")
    pid = os.fork()
    if not pid:
        outcome, said = TRACEBACK, "died"
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(null, stream)
            outcome, said = (FINE if command(folder) else FAILED), ""
        except TuneoffError as error:
            outcome, said = (TRACEBACK if "Traceback" in str(error) else TOLD), str(error)
        except BaseException as error:
            outcome, said = TRACEBACK, f"{type(error).__name__}: {error}"
        finally:
            told.write_text(f"{outcome}\n{said}")
            os._exit(0)
    try:
        status = exit_status(pid)
    except TimeoutError as error:
        return TRACEBACK, str(error)
    outcome, _, said = told.read_text().partition("\n")
    return (outcome, said) if not status else (TRACEBACK, f"died of {signal.Signals(-status).name}")


def tries(seed: int, work: Path, cache: Path | None) -> Iterator[tuple[str, str, str, str, str]]:
    """Try after try in random order: the run's state, file, damage, command, and how it ended."""
    os.environ["XDG_CACHE_HOME"] = str(cache or work / "cache")
    be_ready()
    finished, half, chance = work / "finished", work / "half", random.Random(seed)
    if exit_status(begin(recipe_of("t5"), finished)):
        raise RuntimeError("the run to be damaged did not end")
    shutil.copytree(finished, half, ignore=shutil.ignore_patterns("trials"))
    hit = kill(recipe_of("t5"), half, Kill("change", child=2, change=40))
    if not hit or not list(half.glob("trials/*/*/checkpoints/*")):
        raise RuntimeError("the run that should be half-finished is not")
    plans = [
        (state, path.relative_to(state), way, command)
        for state in (finished, half)
        for path in sorted(state.rglob("*"))
        if path.is_file() and path.name != ".lock"
        for way in WAYS
        for command in COMMANDS
    ]
    chance.shuffle(plans)
    for state, file, way, command in plans:
        folder = work / "try"
        shutil.copytree(state, folder)
        content = WAYS[way]((folder / file).read_bytes(), chance)
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_bytes(content)
        elif way == FOLDER:
            (folder / file).mkdir()
        outcome, said = ends(COMMANDS[command], folder)
        shutil.rmtree(folder)
        if outcome == TRACEBACK:
            print(f"{state.name}/{file} {way}, {command}: {said}", file=sys.stderr, flush=True)
        yield state.name, str(file), way, command, outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--tries", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="compiled kernels and tokens, to be used again (default: a new one)")
    parser.add_argument("--json", type=Path, help="where every try goes")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    found: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as work:
        for one in tries(arguments.seed, Path(work), arguments.cache):
            found.append(one)
            if time.monotonic() > until or len(found) >= arguments.tries:
                break
    counts: Counter[Any] = Counter((command, outcome) for _, _, _, command, outcome in found)
    print(f"{len(found)} tries\n\n| command | {FINE} | {TOLD} | {FAILED} | {TRACEBACK} |")
    print("| --- " * 5 + "|")
    for command in COMMANDS:
        cells = [str(counts[command, outcome]) for outcome in (FINE, TOLD, FAILED, TRACEBACK)]
        print(f"| {command} | {' | '.join(cells)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if any(outcome == TRACEBACK for *_, outcome in found) else 0)


if __name__ == "__main__":
    main()
