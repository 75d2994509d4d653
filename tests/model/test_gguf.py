"""A GGUF file is read as what it holds, once; what cannot be read so is refused in a line."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase

from tests.gguf_files import TEMPLATE, VOCABULARY, llama, tokenizer, write_gguf
from tuneoff.data.contents import hash_file
from tuneoff.errors import ModelError
from tuneoff.model.base import generation_config_of, load_config, load_model
from tuneoff.model.gguf import convert, converted
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.progress import UNHEARD
from tuneoff.records import GgufFile

TEXTS = ("x  3", "12345", "\n\n9 a 20 b", "Hello Ada, 2 lamps  for 45 dollars!", "½ ²", "  a")


@pytest.fixture(scope="module")
def own() -> PreTrainedTokenizerBase:
    return tokenizer()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/tuneoff/gguf"


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were converted."""
    made: list[Path] = []
    real = convert._convert

    def noted(path: Path, *rest: Any) -> GgufFile:
        made.append(path)
        return real(path, *rest)

    monkeypatch.setattr(convert, "_convert", noted)
    return made


def convert_file(path: Path) -> tuple[Path, GgufFile]:
    return converted(path, hash_file(path), UNHEARD)


@pytest.mark.parametrize(
    ("kind", "tied", "said"),
    [
        ("F16", True, "F16 GGUF: weights in F16"),
        ("Q8_0", False, "Q8_0 GGUF: weights rounded to 8 bits"),
        ("Q4_1", True, "Q4_1 GGUF: weights rounded to 4 bits"),
    ],
)
def test_weights_and_logits_are_those_of_the_file(
    kind: str, tied: bool, said: str, own: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    reference = llama(tied)
    expected = write_gguf(tmp_path / "tiny.gguf", reference, own, kind)
    folder, found = convert_file(tmp_path / "tiny.gguf")
    assert (found.file_type, found.architecture, found.license) == (kind, "llama", "apache-2.0")
    assert found.weights == said
    loaded = load_model(str(folder), None, "causal", torch.float32).eval()
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], values) for name, values in expected.items())
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    reference.load_state_dict(expected, strict=False)
    ids = torch.arange(40).reshape(2, 20)
    assert torch.equal(loaded(ids).logits, reference(ids).logits)


def test_config_tokenizer_and_generation_are_those_of_the_file(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama(), own)
    # What lies beside the file is not the file's.
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    folder = str(convert_file(tmp_path / "tiny.gguf")[0])
    config, read = load_config(folder, None), load_tokenizer(folder, None)
    assert (config.num_key_value_heads, config.max_position_embeddings, config.rope_parameters["rope_theta"]) == (
        2, 512, 10000.0,
    )  # fmt: skip
    assert "transformers_version" not in Path(folder, "config.json").read_text()
    generation = generation_config_of(folder, None)
    assert generation is not None
    assert (generation.eos_token_id, generation.pad_token_id) == (own.eos_token_id, own.pad_token_id)
    assert (read.eos_token, read.pad_token, read.unk_token) == (own.eos_token, own.pad_token, own.unk_token)
    assert read.bos_token is None and len(read) == VOCABULARY, "no token is added to the file's"
    assert read.chat_template == TEMPLATE
    assert read("a").input_ids == own("a").input_ids, "no token that begins a text is added"


@pytest.mark.parametrize("pre", ["smollm", "gpt-2"])
def test_texts_are_split_as_the_model_s_own_tokenizer_does(
    pre: str, own: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama(), own, pre=pre)
    folder, found = convert_file(tmp_path / "tiny.gguf")
    read, reference = load_tokenizer(str(folder), None), tokenizer().backend_tokenizer
    plain = [reference.encode(text).ids for text in TEXTS]
    if pre == "smollm":  # as in SmolLM2's published tokenizer.json
        reference.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
            ]
        )
    expected = [reference.encode(text).ids for text in TEXTS]
    assert [read(text).input_ids for text in TEXTS] == expected
    assert (plain == expected) == (pre == "gpt-2"), "the texts tell the two apart"
    assert [read.decode(ids) for ids in expected] == list(TEXTS)
    assert len(read("12345").input_ids) == 5 or pre == "gpt-2"
    assert found.warnings == []


def test_an_unknown_way_to_split_texts_is_told(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama(), own, pre="mystery")
    _, found = convert_file(tmp_path / "tiny.gguf")
    [warning] = found.warnings
    assert "splits texts the way 'mystery', which is not known here" in warning


def test_a_file_is_converted_once(
    own: PreTrainedTokenizerBase, tmp_path: Path, cache: Path, conversions: list[Path]
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), own)
    with ThreadPoolExecutor() as pool:  # as two processes would
        first, second = pool.map(convert_file, [path, path])
    assert first == second == convert_file(path)
    assert len(conversions) == 1
    moved = tmp_path / "elsewhere" / "tiny.gguf"
    moved.parent.mkdir()
    shutil.copyfile(path, moved)
    assert convert_file(moved) == first
    assert len(conversions) == 1
    write_gguf(path, llama(tied=False), own)
    assert convert_file(path)[0] != first[0], "another content"
    assert len(conversions) == 2


def test_what_a_killed_conversion_left_is_not_taken(
    own: PreTrainedTokenizerBase, tmp_path: Path, cache: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, llama(), own)
    with monkeypatch.context() as killed:
        killed.setattr(convert, "_without_origin", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert_file(path)
    [folder] = (place for place in cache.iterdir() if place.is_dir())
    (folder / "model.safetensors").write_bytes(b"half")
    assert convert_file(path)[0] == folder
    load_model(str(folder), None, "causal", torch.float32)
    assert [place for place in cache.iterdir() if place.is_dir()] == [folder]
    assert len(conversions) == 2


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        convert_file(path)
    said = str(caught.value)
    assert "\n" not in said and path.name in said
    return said


def test_what_is_no_gguf_file_is_refused_in_a_line(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"PK\3\4" + bytes(100))
    assert "is no GGUF file: it begins with b'PK" in refused(path)
    path.write_bytes(b"")
    assert "is no GGUF file" in refused(path)
    write_gguf(path, llama(), own)
    whole = path.read_bytes()
    for cut in (4, 20, 1000, len(whole) // 2, len(whole) - 1000):
        path.write_bytes(whole[:cut])
        assert "is a damaged GGUF file, or one cut short" in refused(path)
    write_gguf(path, llama(), own, parts=3)
    assert "is one of 3 parts" in refused(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "mystery"}, "GGUF model with architecture mystery is not supported yet"),
        ({"leave_out": "model.layers.1.mlp.up_proj.weight"}, "1 tensors of the model are not in the file"),
        ({"inner": 128}, "6 tensors of the model are not in the file, or of another shape (model.layers.0.mlp.down"),
        ({"extra": "rope_freqs.weight"}, "(rope_freqs.weight among what is not): the model would not be the one"),
        ({"extra": "blk.0.attn_q.bias"}, "the model would not be the one that was published"),
    ],
)
def test_a_model_that_transformers_does_not_read_whole_is_refused(
    changed: dict[str, Any], said: str, own: PreTrainedTokenizerBase, tmp_path: Path, cache: Path
) -> None:
    write_gguf(tmp_path / "tiny.gguf", llama(), own, **changed)
    assert said in refused(tmp_path / "tiny.gguf")
    assert not [place for place in cache.iterdir() if place.is_dir()], "nothing is left"


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ({"Q4_1": 789, "Q8_0": 210, "F32": 1}, "weights rounded, 79 % to 4 bits (Q4_1), 21 % to 8 bits (Q8_0)"),
        ({"IQ2_XXS": 60, "F16": 40}, "weights rounded, 60 % to 2 bits (IQ2_XXS), 40 % in F16"),
        ({"TQ1_0": 100}, "weights rounded to three values"),
        ({"MXFP4": 90, "BF16": 10}, "weights rounded, 90 % to 4 bits (MXFP4), 10 % in BF16"),
        ({"BF16": 99, "F32": 1}, "weights in BF16 and F32"),
    ],
)
def test_how_a_file_holds_weights_is_told_from_its_types(types: dict[str, int], said: str) -> None:
    found = GgufFile(
        file="m.gguf", sha256="", architecture="llama", file_type="Q4_1", types=types, license=None, warnings=[]
    )
    assert found.weights == f"Q4_1 GGUF: {said}"
