"""Waiting, turns and limits, with an arm that writes when it is let."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest

from tests.use.serve.conftest import running
from tuneoff.folder import RunFolder
from tuneoff.use.serve import Limits, choose_arms
from tuneoff.use.serve.app import create_app
from tuneoff.use.serve.batches import Batches, ClosedError
from tuneoff.use.serve.server import Server
from tuneoff.use.writer import Written


class Slow:
    """Writes each dialogue backwards, once `go` is set; remembers the batches."""

    def __init__(self) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.batches: list[tuple[str, list[str]]] = []

    def writer(self, arm: str) -> Any:
        self.arm = arm
        return self

    def write(self, rows: Sequence[Mapping[str, str]]) -> list[Written]:
        texts = [row["dialogue"] for row in rows]
        self.batches.append((self.arm, texts))
        self.begun.set()
        assert self.go.wait(20)
        if "bad" in texts:
            raise RuntimeError("no memory left")
        return [Written(text[::-1], False, 1, 2, 2) for text in texts]


@contextmanager
def batches(slow: Slow, size: int = 3) -> Iterator[Batches]:
    made = Batches(slow.writer, ["a", "b", "c"], size, limit=100)
    made.start()
    yield made
    slow.go.set()
    made.close()
    made.join()


def texts(*names: str) -> list[dict[str, str]]:
    return [{"dialogue": name} for name in names]


def test_arms_take_turns_and_their_texts_go_together() -> None:
    slow = Slow()
    with batches(slow) as made:
        first = made.ask(["a"], texts("1"))
        slow.begun.wait(20)
        asked = [
            *first,
            *made.ask(["a"], texts("2", "3")),
            *made.ask(["b"], texts("4")),
            *made.ask(["a"], texts("5", "6")),
        ]
        asked += [*made.ask(["c"], texts("7")), *made.ask(["b"], texts("8"))]
        assert made.waiting == 7
        slow.go.set()
        assert [one.result(20).written.text for one in asked] == list("12345678")
    assert slow.batches == [("a", ["1"]), ("b", ["4", "8"]), ("c", ["7"]), ("a", ["2", "3", "5"]), ("a", ["6"])]
    found = asked[1].result()
    assert found.batch == 3 and found.waited_seconds > 0


def test_what_is_cancelled_is_not_computed_and_what_fails_is_told() -> None:
    slow = Slow()
    with batches(slow, size=1) as made:
        running_one, cancelled, bad, good = made.ask(["a"], texts("1", "2", "bad", "4"))
        slow.begun.wait(20)
        assert cancelled.cancel() and not running_one.cancel()
        assert made.waiting == 2
        slow.go.set()
        assert good.result(20).written.text == "4"
        assert str(bad.exception()) == "a could not write: RuntimeError: no memory left"
    assert [rows for _, rows in slow.batches] == [["1"], ["bad"], ["4"]]


def test_closing_finishes_the_batch_at_work_and_refuses_the_rest() -> None:
    slow = Slow()
    with batches(slow) as made:
        (at_work,) = made.ask(["a"], texts("1"))
        slow.begun.wait(20)
        (waits,) = made.ask(["a"], texts("2"))
        made.close()
        assert isinstance(waits.exception(0), ClosedError)
        slow.go.set()
        assert at_work.result(20).written.text == "1"
        with pytest.raises(ClosedError):
            made.ask(["a"], texts("3"))


@pytest.fixture
def slow() -> Slow:
    return Slow()


@contextmanager
def serving(run: RunFolder, slow: Slow, limits: Limits) -> Iterator[httpx.Client]:
    made = Batches(slow.writer, ["lora"], 1, limits.waiting)
    app = create_app(choose_arms(run, ["lora"]), 0, made, limits)
    with ExitStack() as stack:
        client = stack.enter_context(running(Server(app, made, limits.connections)))
        stack.callback(slow.go.set)
        yield client


def post(client: httpx.Client, *names: str) -> httpx.Response:
    return client.post("/api/generate", json={"rows": texts(*names)})


def test_too_much_waiting_is_refused_for_now(run: RunFolder, slow: Slow) -> None:
    answers: list[httpx.Response] = []
    with serving(run, slow, Limits(waiting=2)) as client:
        thread = threading.Thread(target=lambda: answers.append(post(client, "one", "two", "three")))
        thread.start()
        slow.begun.wait(20)
        refused = post(client, "four")
        assert (refused.status_code, refused.json()["error"]) == (503, "too many texts wait already")
        assert int(refused.headers["retry-after"]) >= 1
        slow.go.set()
        thread.join()
        assert [row["lora"]["text"] for row in answers[0].json()["rows"]] == ["eno", "owt", "eerht"]
        assert post(client, "four").status_code == 200


def test_what_is_late_is_answered_and_not_computed(run: RunFolder, slow: Slow) -> None:
    with serving(run, slow, Limits(seconds=0.2)) as client:
        late = post(client, "one", "two")
        assert (late.status_code, late.json()["error"]) == (504, "not written within 0.2 s: ask for fewer at once")
        slow.go.set()
        assert post(client, "three").status_code == 200
    assert [rows for _, rows in slow.batches] == [["one"], ["three"]]


def test_what_nobody_waits_for_is_not_computed(run: RunFolder, slow: Slow) -> None:
    with serving(run, slow, Limits()) as client:
        body = b'{"rows": [{"dialogue": "one"}, {"dialogue": "two"}]}'
        with raw(client, len(body)) as connection:
            connection.sendall(body)
            slow.begun.wait(20)
            assert client.get("/health").json()["waiting"] == 1
        for _ in range(200):
            if client.get("/health").json()["waiting"] == 0:
                break
            time.sleep(0.02)
        slow.go.set()
        assert post(client, "three").status_code == 200
    assert [rows for _, rows in slow.batches] == [["one"], ["three"]]


def test_a_failure_is_told_and_the_next_text_is_written(run: RunFolder, slow: Slow) -> None:
    slow.go.set()
    with serving(run, slow, Limits()) as client:
        failed = post(client, "bad")
        assert (failed.status_code, failed.json()["error"]) == (
            500,
            "lora could not write: RuntimeError: no memory left",
        )
        assert post(client, "good").json()["rows"][0]["lora"]["text"] == "doog"


def test_a_body_that_does_not_come_is_given_up(run: RunFolder, slow: Slow) -> None:
    with serving(run, slow, Limits(body_seconds=0.2)) as client, raw(client, 100) as connection:
        connection.sendall(b"{")
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408
        assert "the body was not there after 0.2 s" in answer.read().decode()


def raw(client: httpx.Client, length: int) -> socket.socket:
    """A connection that has sent the head of a request whose body has `length` bytes."""
    connection = socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=20)
    head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}"
    connection.sendall(f"POST /api/generate HTTP/1.1\r\n{head}\r\n\r\n".encode())
    return connection
