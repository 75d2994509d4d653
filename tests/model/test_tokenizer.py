from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import dialogue
from tuneoff.model.tokenizer import load_tokenizer, train_tokenizer


def test_truncation_and_padding_of_the_file_are_not_passed_on(tmp_path: Path) -> None:
    """Programs other than transformers cut and pad by what tokenizer.json says."""
    tokenizer = train_tokenizer([dialogue(n)[0] for n in range(8)], 400, "seq2seq")
    tokenizer.save_pretrained(tmp_path / "given")
    file = tmp_path / "given/tokenizer.json"
    values = json.loads(file.read_text())
    values["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    values["padding"] = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                         "pad_type_id": 0, "pad_token": "<pad>"}  # fmt: skip
    file.write_text(json.dumps(values))
    loaded = load_tokenizer(str(tmp_path / "given"), None)
    loaded.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved/tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None
    text = dialogue(3)[0]
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
