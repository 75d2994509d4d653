"""`tuneoff generate` on a finished run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.cli.test_run import TUNEOFF, tuneoff, write_recipe
from tests.conftest import dialogue, recipe_values, write_jsonl


def pipe(text: str, *arguments: str | Path, status: int = 0) -> tuple[str, str]:
    command = [*TUNEOFF, "generate", *map(str, arguments)]
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True, timeout=200)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_it_writes_what_the_trial_wrote_in_order_and_tells_bad_lines(data_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tuneoff("run", write_recipe(tmp_path / "r.yaml", recipe_values(data_folder)), "--out", run)
    for arm in ("original", "full", "lora"):
        lines = (run / "trials" / arm / "seed-0" / "predictions.jsonl").read_text().splitlines()
        trial = [json.loads(line) for line in lines]
        rows = [{"id": p["id"], "dialogue": p["input"], "note": "kept"} for p in trial]
        write_jsonl(tmp_path / "rows.jsonl", rows)
        written = [
            json.loads(line) for line in tuneoff("generate", run, tmp_path / "rows.jsonl", "--arm", arm)[0].splitlines()
        ]
        assert [row["prediction"] for row in written] == [p["prediction"] for p in trial]
        assert [{key: row[key] for key in ("id", "dialogue", "note")} for row in written] == rows

    texts = [dialogue(n)[0] for n in (200, 201, 202)]
    out, _ = pipe("\n\n\n".join(texts) + "\n", run, "--arm", "lora")
    assert out.splitlines() == [" ".join(p["prediction"].split()) for p in trial[:3]]

    good = json.dumps({"dialogue": texts[0]})
    for bad, message in (
        ("{", "standard input:2 is not JSON"),
        ("[1]", "standard input:2 is no JSON object"),
        ('{"text": "x"}', "standard input:2 has no text in 'dialogue'"),
        ('{"dialogue": null}', "standard input:2 has no text in 'dialogue'"),
    ):
        out, err = pipe(f"{good}\n{bad}\n{good}\n", run, "--arm", "lora", status=2)
        assert len(out.splitlines()) == 1  # what stood before it
        assert err.splitlines()[-1].startswith(f"tuneoff: {message}")
    for arguments, message in (
        ((run, "--arm", "loro"), "has no arm 'loro'; did you mean 'lora'?"),
        ((run, "--arm", "lora", "--seed", "7"), "arm lora at seed 7 has not finished"),
        ((tmp_path, "--arm", "lora"), "is not the folder of a run"),
        ((run, tmp_path / "nowhere.txt", "--arm", "lora"), "cannot read: No such file or directory"),
    ):
        _, err = pipe("", *arguments, status=2)
        assert message in err.splitlines()[-1]
    _, err = pipe(" \n", run, "--arm", "lora", status=2)
    assert "is empty: a dialogue as text, or jsonl with dialogue" in err
