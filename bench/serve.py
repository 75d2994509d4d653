"""The load test of `tuneoff serve`: texts per second with 1, 8, 32 clients and one at a time; wrong answers; memory.

    OMP_NUM_THREADS=1 python bench/serve.py RUN [--arm lora] [--requests 2000] [--texts 64] [--rounds 5] [--json FILE]

The server is the real command in a process of its own; what it is compared with is the same arm in another process,
without HTTP, that writes one text after another. Clients ask for one text a request, over loopback, and for the next
when they have it. An answer is wrong where it is not the text that the arm's trial wrote. Memory first, on a server
just started; then the rounds, in which the ways take turns. Figures are medians; the first round is dropped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import psutil

from tuneoff.folder import RunFolder
from tuneoff.records import Prediction, read_predictions
from tuneoff.runner.finished import Finished
from tuneoff.use.writer import Writer

CLIENTS = (1, 8, 32)
MARKS = (0, 500, 1000, 2000)  # requests after which memory is read


def one_at_a_time(run: RunFolder, arm: str) -> None:
    """For each line of standard input, a list of texts, the seconds to write them one after another."""
    finished = Finished(run, arm)
    writer, column = Writer(finished), finished.recipe.data.input or "messages"
    for line in sys.stdin:
        texts = json.loads(line)
        began = time.perf_counter()
        for text in texts:
            writer.write([{column: text}])
        print(time.perf_counter() - began, flush=True)


class Alone:
    """The process that writes one text at a time."""

    def __init__(self, run: RunFolder, arm: str) -> None:
        command = [sys.executable, __file__, str(run.path), "--arm", arm, "--alone"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def seconds(self, texts: list[str]) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(texts) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


@contextmanager
def serving(run: RunFolder, arm: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address and process of `tuneoff serve`."""
    command = [sys.executable, "-m", "tuneoff", "serve", str(run.path), "--arm", arm, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = next(word for word in server.stdout.readline().split() if word.startswith("http://"))
        yield url, psutil.Process(server.pid)
    finally:
        server.terminate()
        if server.wait(60) != 0:
            print(f"the server ended with {server.returncode}", file=sys.stderr)


class Load:
    """Clients that ask at once, and what they saw."""

    def __init__(self, url: str, arm: str, column: str, predictions: list[Prediction]) -> None:
        self._url, self._arm, self._column = url, arm, column
        self._next = cycle(predictions)
        self.answers, self.wrong = 0, 0

    def run(self, clients: int, requests: int) -> tuple[float, list[float]]:
        """Seconds for all requests, and for each."""
        return asyncio.run(self._run(clients, list(islice(self._next, requests))))

    async def _run(self, clients: int, asked: list[Prediction]) -> tuple[float, list[float]]:
        waiting, seconds = iter(asked), []
        async with httpx.AsyncClient(base_url=self._url, timeout=120) as http:

            async def client() -> None:
                for one in waiting:
                    began = time.perf_counter()
                    body = {"rows": [{self._column: one.input}], "arms": [self._arm]}
                    answer = (await http.post("/api/generate", json=body)).raise_for_status().json()
                    seconds.append(time.perf_counter() - began)
                    self.answers += 1
                    self.wrong += answer["rows"][0][self._arm]["text"] != one.prediction

            began = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(clients)))
            return time.perf_counter() - began, seconds


def measure(run: RunFolder, arm: str, requests: int, texts: int, rounds: int) -> dict[str, Any]:
    finished = Finished(run, arm)
    column = finished.recipe.data.input or "messages"
    predictions = read_predictions(finished.trial.predictions)
    resident: dict[int, int] = {}
    speeds: dict[str, list[float]] = {"alone": [], **{str(clients): [] for clients in CLIENTS}}
    waits: dict[str, list[float]] = {str(clients): [] for clients in CLIENTS}
    with serving(run, arm) as (url, process):
        load = Load(url, arm, column, predictions)
        for mark in [*(m for m in MARKS if m < requests), requests]:
            load.run(max(CLIENTS), mark - load.answers)
            resident[mark] = process.memory_info().rss
            print(f"{mark} requests: {resident[mark] / 2**20:.1f} MiB resident", file=sys.stderr, flush=True)
        alone, given = Alone(run, arm), cycle(p.input for p in predictions)
        for number in range(rounds + 1):
            took = alone.seconds(list(islice(given, texts)))
            if number:
                speeds["alone"].append(texts / took)
            for clients in CLIENTS:
                took, each = load.run(clients, texts)
                if number:
                    speeds[str(clients)].append(texts / took)
                    waits[str(clients)] += each
            print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        alone.end()
    return {
        "run": run.path.name,
        "arm": arm,
        "rounds": rounds,
        "texts": texts,
        "texts_per_second": speeds,
        "request_seconds": {clients: quantiles(each, n=20)[9::9] for clients, each in waits.items()},
        "ratios": {clients: median(speeds[clients]) / median(speeds["alone"]) for clients in map(str, CLIENTS)},
        "answers": load.answers,
        "wrong": load.wrong,
        "resident_bytes": resident,
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['arm']} of {result['run']}, {result['rounds']} rounds of {result['texts']} texts a way",
        "",
        "| | texts/s (all rounds) | ÷ one at a time | request, median and 95th percentile |",
        "| --- | --- | --- | --- |",
    ]
    for way, speeds in result["texts_per_second"].items():
        name = "one at a time, no server" if way == "alone" else f"{way} client{'s' * (way != '1')}"
        told = f"{median(speeds):.1f} ({min(speeds):.1f}–{max(speeds):.1f})"
        ratio, waits = result["ratios"].get(way), result["request_seconds"].get(way)
        lines.append(
            f"| {name} | {told} | {'' if ratio is None else f'{ratio:.2f}'} "
            f"| {'' if waits is None else f'{waits[0]:.2f} s, {waits[1]:.2f} s'} |"
        )
    memory = ", ".join(f"{size / 2**20:.0f} MiB after {mark}" for mark, size in result["resident_bytes"].items())
    return "\n".join(
        [*lines, "", f"{result['wrong']} of {result['answers']} answers wrong. Resident: {memory} requests."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--arm", default="lora")
    parser.add_argument("--requests", type=int, default=2000, help="for the memory")
    parser.add_argument("--texts", type=int, default=64, help="of each way in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    run = RunFolder(arguments.run)
    if arguments.alone:
        one_at_a_time(run, arguments.arm)
        return
    result = measure(run, arguments.arm, arguments.requests, arguments.texts, arguments.rounds)
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
