"""The API on a real run, over HTTP."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
import torch

from tests.cli.commands import start
from tests.use.conftest import ARMS
from tuneoff.errors import AddressError, RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.records import Prediction
from tuneoff.runner.finished import Finished
from tuneoff.use.serve import choose_arms, listen
from tuneoff.use.serve.models import Models

Predictions = dict[str, list[Prediction]]


def test_every_arm_writes_what_its_trial_wrote(client: httpx.Client, predictions: Predictions) -> None:
    inputs = [p.input for p in predictions["original"]]
    for arms in (ARMS, ARMS[::-1], ["lora", "original"]):  # the base is as it was after an adapter's turn
        body = {"rows": [{"dialogue": text} for text in inputs], "arms": arms}
        rows = client.post("/api/generate", json=body).raise_for_status().json()["rows"]
        for arm in arms:
            assert [row[arm]["text"] for row in rows] == [p.prediction for p in predictions[arm]]
            assert [row[arm]["truncated"] for row in rows] == [p.truncated for p in predictions[arm]]
        assert [list(row) for row in rows] == [arms] * len(inputs)


def test_an_answer_counts_tokens_and_seconds(client: httpx.Client, run: RunFolder, predictions: Predictions) -> None:
    finished = Finished(run, "full")
    answer = _ask(client, "full", predictions["full"][0].input)
    prompt = finished.recipe.prompt.replace("{dialogue}", predictions["full"][0].input)
    assert answer["prompt_tokens"] == answer["read_tokens"] == len(finished.tokenizer(prompt)["input_ids"])
    written = finished.tokenizer(answer["text"], add_special_tokens=False)["input_ids"]
    assert answer["tokens"] == 12 if answer["truncated"] else abs(answer["tokens"] - len(written) - 1) <= 1
    assert not answer["prompt_truncated"]
    assert answer["batch"] == 1 and 0 < answer["seconds"] < 20 and 0 <= answer["waited_seconds"] < 20


def test_a_long_input_is_cut_as_in_the_trial_and_told(client: httpx.Client) -> None:
    answer = _ask(client, "lora", "#Person1#: And then I said, no more.\n" * 80)
    assert answer["prompt_truncated"]
    assert answer["read_tokens"] == 512 < answer["prompt_tokens"]


def test_clients_at_once_get_their_own_answers_from_common_batches(
    client: httpx.Client, predictions: Predictions
) -> None:
    asked = [(arm, n) for n in range(5) for arm in ARMS] * 4
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda one: _ask(client, one[0], predictions[one[0]][one[1]].input), asked))
    assert [a["text"] for a in answers] == [predictions[arm][n].prediction for arm, n in asked]
    assert max(a["batch"] for a in answers) > 1
    assert max(a["batch"] for a in answers) <= 4  # evaluation.batch_size


def test_what_arms_have_in_common_is_in_memory_once(run: RunFolder) -> None:
    arms = [Finished(run, arm) for arm in ARMS]
    models = Models(arms)
    size = {arm.name: sum(p.nbytes for p in arm.model().parameters()) for arm in arms}
    base = size["original"]
    assert models.weights_bytes == base + size["full"] + (size["lora"] - base) + (size["dora"] - base)
    held = {name: p.clone() for name, p in models._models["original"].named_parameters()}
    for arm in ("lora", "dora", "lora"):
        models.writer(arm).write([{"dialogue": "#Person1#: Hello."}])
    assert models.writer("lora") is models.writer("lora")
    assert all(torch.equal(p, held[name]) for name, p in models._models["original"].named_parameters())


GOOD = {"rows": [{"dialogue": "#Person1#: Hello."}]}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        ({"content": b'{"rows": [', "headers": JSON}, 400, "the body is not JSON: Expecting value (at character 10)"),
        ({"content": b'{"rows": "\xff"}', "headers": JSON}, 400, "the body is not UTF-8 (byte 10)"),
        ({"content": b"[" * 100_000, "headers": JSON}, 400, "the body is nested too deeply"),
        ({"content": b"", "headers": JSON}, 422, 'the body is empty; it is an object, {"rows": […]}'),
        ({"json": []}, 422, "the body is no object, got []"),
        ({"json": {}}, 422, "rows: is missing"),
        ({"json": {"rows": []}}, 422, "rows: is empty, and must have at least one item"),
        ({"json": {"rows": [{"dialogue": "x"}] * 33}}, 422, "rows: has 33 items, and may have 32"),
        ({"json": {"rows": [{"dialogue": 3}]}}, 422, "rows.0.dialogue: input should be a valid string, got 3"),
        ({"json": {"rows": [{"dialogue": " \n"}]}}, 422, "rows.0.dialogue: has no text"),
        ({"json": {"rows": [{"dialogue": "x" * 50_001}]}}, 422, "rows.0.dialogue: has 50,001 characters, and may have"),
        ({"json": {"rows": [{"dialogue": "x", "text": "y"}]}}, 422, "rows.0.text: no such key; the choices are:"),
        ({"content": rb'{"rows": [{"dialogue": "\ud800"}]}', "headers": JSON}, 422, "rows.0.dialogue: input should be"),
        ({"json": {**GOOD, "arm": "lora"}}, 422, "arm: no such key; did you mean 'arms'?"),
        ({"json": {**GOOD, "arms": ["loro"]}}, 422, "arms.0: no such arm, got \"loro\"; did you mean 'lora'?"),
        ({"json": {**GOOD, "arms": ["x"] * 1000}}, 422, "arms: has 1,000 items, and may have 4"),
        ({"json": {"dialogue": "x"}}, 422, 'rows: is missing; dialogue: it belongs into a row: {"rows": [{"dialogue"'),
        ({"json": {**GOOD, "arms": ["lora", "lora"]}}, 422, "arms: has an arm twice"),
        ({"data": GOOD}, 415, "the content type must be application/json, got 'application/x-www-form-urlencoded'"),
        ({"json": {"rows": "x" * (1 << 20)}}, 413, "the body may have 1,048,576 bytes"),
        ({"content": iter([b"x" * 700_000] * 2), "headers": JSON}, 413, "the body may have 1,048,576 bytes"),
        ({"json": GOOD, "headers": {"origin": "http://evil.example"}}, 403, "a page of 'http://evil.example' may not"),
        ({"json": GOOD, "headers": {"origin": "null"}}, 403, "a page of 'null' may not ask here"),
        ({"json": GOOD, "headers": {"host": "evil.example"}}, 421, "no host 'evil.example' here: ask for 127.0.0.1"),
        ({"json": GOOD, "headers": {"host": "127.0.0.1.evil.example:80"}}, 421, "no host '127.0.0.1.evil.example:80'"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_wrong(client: httpx.Client, sent: dict[str, Any], status: int, message: str) -> None:
    answer = client.post("/api/generate", **sent)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].startswith(message)
    assert len(answer.json()["problems"]) <= 2
    assert client.post("/api/generate", json=GOOD).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "[::1]:80", "LOCALHOST"])
def test_this_machine_may_ask_by_its_names(client: httpx.Client, host: str) -> None:
    headers = {"host": host, "origin": f"http://{host.lower()}"}
    assert client.post("/api/generate", json=GOOD, headers=headers).status_code == 200


def test_paths_and_methods_that_there_are_not(client: httpx.Client) -> None:
    for answer, status, message in (
        (client.get("/docs"), 404, "nothing at /docs; the API is described in /openapi.json"),
        (client.get("/api/generate"), 405, "/api/generate does not take GET"),
        (client.delete("/health"), 405, "/health does not take DELETE"),
    ):
        assert (answer.status_code, answer.json()["error"]) == (status, message)


def test_every_answer_forbids_what_the_page_does_not_need(client: httpx.Client) -> None:
    for answer in (client.get("/"), client.get("/api/arms"), client.get("/nowhere"), client.get("/health")):
        policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'" and set(policy.values()) == {"'none'", "'self'"}
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_schema_knows_this_run(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    parts = schema["components"]["schemas"]
    assert parts["Row"]["required"] == ["dialogue"] and parts["Row"]["properties"]["dialogue"]["maxLength"] == 50_000
    assert parts["Asked"]["properties"]["arms"]["items"]["enum"] == ARMS
    responses = schema["paths"]["/api/generate"]["post"]["responses"]
    assert set(responses) == {"200", "400", "403", "408", "413", "415", "421", "422", "500", "503", "504"}
    for path in schema["paths"].values():
        for call in path.values():
            for status, response in call["responses"].items():
                shape = response["content"]["application/json"]["schema"]
                assert ("Refusal" in json.dumps(shape)) == (status != "200")


def test_the_run_and_its_examples(client: httpx.Client, predictions: Predictions) -> None:
    about = client.get("/api/arms").json()
    assert [arm["name"] for arm in about["arms"]] == ARMS
    assert [arm["trainable"] > 0 for arm in about["arms"]] == [False, True, True, True]
    assert (about["columns"], about["input"], about["max_new_tokens"]) == (["dialogue"], "dialogue", 12)
    shown = [(e["id"], e["row"]["dialogue"], e["references"]) for e in client.get("/api/examples").json()]
    assert shown == [(p.id, p.input, p.references) for p in predictions["original"]]
    assert client.get("/health").json() == {"status": "ok", "waiting": 0}


def test_an_answer_does_not_wait_for_an_acknowledgement(client: httpx.Client) -> None:
    assert median(client.get("/health").elapsed.total_seconds() for _ in range(9)) < 0.03  # TCP's wait is 40 ms


@pytest.fixture
def partial(run: RunFolder, tmp_path: Path) -> Iterator[RunFolder]:
    """The run with `full` not finished."""
    shutil.copytree(run.path, tmp_path / "run")
    copied = RunFolder(tmp_path / "run")
    copied.trial("full", 0).result.unlink()
    return copied


def test_arms_that_are_not_finished_are_told(partial: RunFolder, tmp_path: Path) -> None:
    served = choose_arms(partial, [])
    assert [arm.name for arm in served.arms] == ["original", "lora", "dora"]
    assert served.unfinished == ["full"]
    assert [arm.name for arm in choose_arms(partial, ["dora", "lora"]).arms] == ["lora", "dora"]
    for names, message in ((["full"], "arm full at seed 0 has not finished"), (["loro"], "did you mean 'lora'?")):
        with pytest.raises(RunFolderError, match=message):
            choose_arms(partial, names)
    for arm in ARMS:
        partial.trial(arm, 0).result.unlink(missing_ok=True)
    with pytest.raises(RunFolderError, match="no arm has finished"):
        choose_arms(partial, [])
    with pytest.raises(RunFolderError, match="holds no run"):
        choose_arms(RunFolder(tmp_path), [])


def test_a_port_in_use_is_a_mistake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"cannot serve on port {port}: Address already in use. --port 0 takes"):
            listen(port)


def test_the_command_ends_cleanly_while_requests_wait(run: RunFolder, predictions: Predictions) -> None:
    process = start("serve", run.path, "--port", "0", "--arm", "full", "--arm", "lora")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("full, lora: http://127.0.0.1:") and line.endswith("/ (Ctrl-C ends it)\n")
    url = line.split()[2]
    rows = [{"dialogue": predictions["lora"][n % 5].input} for n in range(32)]
    answers: list[tuple[int, Any]] = []

    def ask() -> None:
        answer = httpx.post(f"{url}api/generate", json={"rows": rows}, timeout=60)
        answers.append((answer.status_code, answer.json()))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while httpx.get(f"{url}health").json()["waiting"] < 128:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    for thread in threads:
        thread.join()
    assert (process.returncode, out, err) == (0, "", "")
    refused = [body["error"] for status, body in answers if status == 503]
    assert refused and set(refused) == {"the server is shutting down"}
    for status, body in answers:
        if status == 200:
            assert [row["lora"]["text"] for row in body["rows"][:5]] == [p.prediction for p in predictions["lora"]]


def _ask(client: httpx.Client, arm: str, text: str) -> dict[str, Any]:
    answer = client.post("/api/generate", json={"rows": [{"dialogue": text}], "arms": [arm]})
    return answer.raise_for_status().json()["rows"][0][arm]
