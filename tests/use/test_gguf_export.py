"""`tuneoff export --format gguf`: an arm is written, read back and kept only where it is the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from tests.conftest import recipe_values
from tests.model.test_gguf_writing import SHAPE, by_name
from tests.use.test_export import LORA, carried_out, export
from tuneoff.errors import ExportError
from tuneoff.folder import RunFolder
from tuneoff.model.base import load_model, make_config
from tuneoff.model.gguf import read_back
from tuneoff.model.gguf import write as writing
from tuneoff.records import read_predictions
from tuneoff.report.card import Exported
from tuneoff.runner.finished import Finished
from tuneoff.use.export import exporting, gguf_reading
from tuneoff.use.export.merged import scored_model

BOTH = ("gguf", "gguf-q8_0")


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = recipe_values(data_folder, "causal")
    values["data"]["max_source_length"] = 76
    values["arms"] = {"lora": {**LORA, "learning_rate": 0.02}}
    return carried_out(values, tmp_path_factory.mktemp("gguf") / "demo")


@pytest.mark.parametrize(("format", "kind"), [("gguf", "F16"), ("gguf-q8_0", "Q8_0")])
def test_an_arm_is_written_and_read_back(run: RunFolder, format: str, kind: str, tmp_path: Path) -> None:
    printed = export(run, "lora", tmp_path / "it", format)
    assert (
        f"verified by reading model.gguf back: its 21 tensors are the merged model's, rounded to {kind} and no "
        "further, its tokenizer makes the same tokens of 5 prompts\n"
        "llama-cpp-python is not installed: no text was written with this export, and none compared\n"
    ) in printed
    assert {path.name for path in (tmp_path / "it").iterdir()} >= {"model.gguf", "README.md", "tokenizer.json"}
    exported = Exported.read(tmp_path / "it" / "export.json")
    assert exported.verification is None and exported.read_back is not None
    assert (exported.read_back.type, exported.read_back.tensors, exported.read_back.texts) == (kind, 21, 5)
    merged = scored_model(Finished(run, "lora"))
    tensors = by_name(tmp_path / "it" / "model.gguf")
    assert "output.weight" in tensors, "Llama's own default is not tied"
    assert tensors["blk.0.attn_norm.weight"].tensor_type.name == "F32"
    up, held = merged.model.layers[1].mlp.up_proj.weight.detach().numpy(), tensors["blk.1.ffn_up.weight"]
    assert held.tensor_type.name == kind
    if kind == "F16":
        assert np.array_equal(held.data, up.astype(np.float16))
    else:
        block = held.data[0][:34]  # by hand: a scale in fp16, then 32 numbers from -127 to 127
        scale = np.abs(up[0][:32]).max() / 127
        assert block[:2].copy().view(np.float16)[0] == np.float16(scale)
        assert block[2:].view(np.int8).tolist() == np.rint(up[0][:32] / scale).astype(int).tolist()


def test_the_card_says_which_verification_was_done(run: RunFolder, tmp_path: Path) -> None:
    export(run, "lora", tmp_path / "it", "gguf-q8_0")
    card = (tmp_path / "it" / "README.md").read_text()
    assert "`model.gguf` was read back by transformers" in card and "as Q8_0 rounds them and no further" in card
    assert "llama-cpp-python was not installed where this was exported: no text was written with this file" in card
    assert "llama-cli -m model.gguf --temp 0 -n 12 -no-cnv -f prompt.txt" in card
    assert "pip install llama-cpp-python tokenizers" in card
    assert "library_name: gguf" in card and "- gguf\n" in card
    assert "weights that were not rounded to 8 bits" in card and "\n\n\n" not in card.split("```")[-1]


class Llama:
    """Stands in for llama-cpp-python's: greedy search with the model that the file is read as."""

    def __init__(self, path: str, n_ctx: int, n_gpu_layers: int, verbose: bool) -> None:
        assert n_ctx == 76 + 12
        folder = Path(path).parent / "read"
        read_back(Path(path), folder)
        self._model = load_model(str(folder), None, "causal", torch.float32).eval()

    def generate(self, tokens: list[int], temp: float, repeat_penalty: float) -> Any:
        assert (temp, repeat_penalty) == (0.0, 1.0)
        while True:
            with torch.no_grad():
                tokens = [*tokens, int(self._model(torch.tensor([tokens])).logits[0, -1].argmax())]
            yield tokens[-1]


def test_texts_are_compared_where_llama_cpp_python_is(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = read_predictions(run.trial("lora", 0).predictions)
    find = exporting.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda name: True if name == "llama_cpp" else find(name))
    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=Llama))

    def write(code: str, folder: Path, asked: list[Any], tell: Any) -> list[str]:
        names: dict[str, Any] = {}
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            exec(code, names)
            return [names["generate"](row) for row in asked]

    monkeypatch.setattr("tuneoff.use.export.verify.run_code", write)
    printed = export(run, "lora", tmp_path / "it", "gguf")
    assert "verified by reading model.gguf back" in printed
    assert "verified on 5 test examples: " in printed and "not installed" not in printed
    found = Exported.read(tmp_path / "it" / "export.json").verification
    assert found is not None and found.examples == len(written) and found.same >= 4
    assert "The code above, run in a Python without tuneoff" in (tmp_path / "it" / "README.md").read_text()


def test_a_file_that_is_not_the_arm_is_not_kept(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in transformers' order, a byte that is another, tokens that are, a rope that is."""

    def refused(message: str, *formats: str) -> None:
        for format in formats:
            with pytest.raises(ExportError, match=message) as caught:
                export(run, "lora", tmp_path / "it", format)
            assert "\n" not in str(caught.value)
            assert not list(tmp_path.iterdir())

    with monkeypatch.context() as patch:
        patch.setattr(writing, "laid_out", lambda name, weight, *_: weight)
        refused(
            r"does not hold what the arm is, .*numbers of model.layers.0.self_attn.\w_proj.weight are not the mod",
            "gguf",
        )
    real = gguf_reading.read_back

    def damaged(path: Path, folder: Path) -> Any:
        values = bytearray(path.read_bytes())
        tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == "blk.1.ffn_up.weight")
        values[int(tensor.data_offset) + 41] ^= 0x40
        path.write_bytes(values)
        return real(path, folder)

    with monkeypatch.context() as patch:
        patch.setattr(gguf_reading, "read_back", damaged)
        refused(r": 1 of the 2048 numbers of model.layers.1.mlp.up_proj.weight are not the model's as \w+ ", *BOTH)
    with monkeypatch.context() as patch:
        patch.setattr(gguf_reading, "read_back", _cut(real))
        refused("cannot be read back, and is not kept: .* is a damaged GGUF file, or one cut short", "gguf")
    vocabulary = writing.vocabulary_of

    def shorter(*asked: Any) -> Any:
        found = vocabulary(*asked)
        return type(found)(**{**vars(found), "merges": found.merges[:-40]})

    with monkeypatch.context() as patch:
        patch.setattr(writing, "vocabulary_of", shorter)
        refused("becomes other tokens", "gguf")
    shape = writing.metadata
    with monkeypatch.context() as patch:
        patch.setattr(
            writing, "metadata", lambda config: [(n, 5e5 if n == "rope_freq_base" else v) for n, v in shape(config)]
        )
        refused("rope_theta is 500000.0, and was 10000.0", "gguf-q8_0")


def _cut(real: Any) -> Any:
    def cut(path: Path, folder: Path) -> Any:
        path.write_bytes(path.read_bytes()[:9000])
        return real(path, folder)

    return cut


def test_an_arm_that_cannot_be_written_is_one_line(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "tuneoff.use.export.gguf.load_config",
            lambda *_: make_config({**SHAPE, "hidden_act": "gelu", "model_type": "llama"}),
        )
        with pytest.raises(ExportError, match=r"arm lora cannot be written as a GGUF: its activation.* --format"):
            export(run, "lora", tmp_path / "it", "gguf")
    with pytest.raises(ExportError, match="no format 'gguf-q8'; did you mean 'gguf-q8_0'"):
        export(run, "lora", tmp_path / "it", "gguf-q8")
    assert not list(tmp_path.iterdir())
