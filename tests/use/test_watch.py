"""The page of a run in progress."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient

from tests.browser import needs_browser, opening
from tests.report.made import made_run
from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder, write_json
from tuneoff.records import Progress
from tuneoff.report.live import state_text
from tuneoff.use.local.server import listen
from tuneoff.use.watch.app import create_app, watch_server


def progress(**values: Any) -> Progress:
    at_work: dict[str, Any] = {
        "updated": time.time(), "running": True, "trial": 3, "trials": 3, "arm": "lora", "seed": 0, "phase": "train",
        "done": 30, "total": 120, "loss": 2.5, "tokens_per_second": 1234.5, "device": "CPU", "device_share": 0.97,
        "memory_bytes": 3 * 2**30, "phase_seconds_left": 90.0, "run_seconds_left": 754.0,
    }  # fmt: skip
    return Progress(**{**at_work, **values})


def begun(path: Path) -> RunFolder:
    """A run whose first two arms are done, while LoRA is trained."""
    folder = made_run(path / "run")
    own = folder.trial("lora", 0)
    own.result.unlink()
    own.predictions.unlink()
    progress().write(folder.progress)
    write_json(own.step_memory, {"peak": 300 * 2**20, "process_peak": None, "components": {"weights": 200 * 2**20}})
    return folder


def asking(folder: RunFolder) -> TestClient:
    return TestClient(create_app(folder), base_url="http://127.0.0.1")


def test_it_shows_what_is_done_and_how_long_the_rest_takes(tmp_path: Path) -> None:
    text = asking(begun(tmp_path)).get("/now").text
    for shown in (
        "Trial 3 of 3: lora, seed 0: train.", "30 of 120", "2.500 nats per token", "1,234 tokens per second", "97 %",
        "3.00 GiB", "about 1m 30s", "about 12m 34s", "<td>to do</td>", "Training helped: ROUGE-1 rose from ",
        "Memory of a training step, by what it is for",
    ):  # fmt: skip
        assert shown in text, shown
    assert text.count("<svg") == 2
    assert 'class="line s2"' in text  # the curve of lora, which has not ended


def test_it_follows_the_run(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    client = asking(folder)
    before = client.get("/now").text
    made_run(folder.path)  # lora is done
    progress(running=False).write(folder.progress)
    after = client.get("/now").text
    assert "to do" in before and "to do" not in after
    assert "The run is not at work" in after
    assert "lora keeps " in after


def test_the_report_as_far_as_it_goes_is_made_and_not_written(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    answer = asking(folder).get("/report.html")
    assert "Not finished: lora/seed-0" in answer.text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"  # its own policy stands in the page
    assert not folder.report.exists() and not folder.comparison.exists()


def test_only_this_machine_may_ask(tmp_path: Path) -> None:
    client = asking(begun(tmp_path))
    assert client.get("/now", headers={"Host": "evil.example"}).status_code == 421
    assert "default-src 'none'" in client.get("/").headers["Content-Security-Policy"]


def test_a_run_whose_name_is_no_text_is_shown(tmp_path: Path) -> None:
    folder = RunFolder(begun(tmp_path).path.rename(tmp_path / "r\udce4n"))
    answer = asking(folder).get("/now")
    assert answer.status_code == 200 and unquote(answer.headers["X-Run"]).startswith("r")


def test_a_damaged_file_is_told_and_the_page_lives(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    client = asking(folder)
    folder.trial("full", 0).result.write_text("{", encoding="utf-8")
    assert "result.json is damaged" in client.get("/now").text
    assert client.get("/report.html").status_code == 503
    folder.progress.write_text("{", encoding="utf-8")
    assert "The run has not told how far it is." in client.get("/now").text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"is not the folder of a run|holds no run"):
        watch_server(RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"arm": None, "trial": 0, "phase": "tokenise"}, "Preparing: tokenise."),
        ({"arm": None, "trial": 0, "phase": "diagnose: spectrum"}, "diagnose: spectrum."),
        ({"rate": 3e-4, "phase": "try"}, "Trial 3 of 3: lora, seed 0 at the learning rate 0.0003: try."),
        ({"updated": 0.0}, "it may have been killed."),
        ({"running": False}, "The run is not at work"),
    ],
)
def test_the_state_in_words(values: dict[str, Any], told: str) -> None:
    assert told in state_text(progress(**values))


def test_torch_is_not_loaded_beside_a_run_that_needs_the_memory() -> None:
    code = (
        "import sys, json, tuneoff.use.watch; print(json.dumps(sorted({'torch', 'transformers'} & set(sys.modules))))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(found.stdout) == []


@needs_browser
def test_the_page_renews_itself(tmp_path: Path) -> None:
    import threading

    folder = begun(tmp_path)
    server = watch_server(folder)
    with listen(0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with opening(f"http://127.0.0.1:{listening.getsockname()[1]}/") as opened:
                opened.page.wait_for_selector("text=30 of 120")
                progress(done=31).write(folder.progress)
                opened.page.wait_for_selector("text=31 of 120", timeout=10_000)
                assert opened.page.inner_text("h1") == "run"
                opened.page.set_viewport_size({"width": 390, "height": 800})
                assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
                assert opened.complaints == []
        finally:
            server.should_exit = True
            thread.join(timeout=30)
