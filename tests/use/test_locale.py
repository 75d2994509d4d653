"""`plan`, `generate` and `export` where the locale and the standard streams know less than the data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.commands import write_recipe
from tests.conftest import dialogue, recipe_values
from tuneoff.folder import RunFolder

BEYOND_LATIN_1 = "Zoë pays 5 €, says 对 and 😀"
# All commands in one process, whose libraries take seconds to load.
COMMANDS = """
import json, sys
from tuneoff.cli.main import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    print("ends", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="the file system's names are UTF-8 elsewhere")
def test_texts_and_paths_beyond_latin_1(run: RunFolder, data_folder: Path, tmp_path: Path) -> None:
    values = recipe_values(data_folder)
    values["arms"] = {"original": {"method": "none"}}  # whose plan is quick
    recipe = write_recipe(tmp_path / "Rezept 对.yaml", values)
    folder = tmp_path / "Läufe 对"
    shutil.copytree(run.path, folder)
    given = {"id": BEYOND_LATIN_1, "dialogue": dialogue(200)[0] + f"\n#Person1#: {BEYOND_LATIN_1}"}
    rows = tmp_path / "Zeilen €.jsonl"
    rows.write_text(json.dumps(given, ensure_ascii=False) + "\n", encoding="utf-8")
    exported = tmp_path / "für 对"
    commands = [
        ["plan", str(recipe)],
        ["generate", str(folder), str(rows), "--arm", "lora"],
        ["export", str(folder), "--arm", "lora", "--to", str(exported), "--format", "adapter"],
    ]
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        capture_output=True,
        check=False,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr.decode()
    planned, generated, export, rest = done.stdout.decode("utf-8").split("ends\n")
    assert "original" in planned and rest == ""
    written = json.loads(generated)
    assert isinstance(written.pop("prediction"), str) and written == given
    assert export.startswith(f"{exported}: lora as adapter")
    assert (exported / "README.md").is_file()
