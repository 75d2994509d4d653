from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from tests.conftest import dialogue
from tuneoff.data.examples import Example, Examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.rendering import TemplateRendering
from tuneoff.data.tokens import IGNORED, Tokenization, keep_tail, load_tokens
from tuneoff.model.tokenizer import train_tokenizer

TAIL = "\nSummary:"


def examples(texts: list[tuple[str, str]]) -> Examples:
    made = [Example(str(n), d, f"Sum:\n{d}{TAIL}", (s,), {"dialogue": d}) for n, (d, s) in enumerate(texts)]
    return Examples(made, len(made), 0, 0)


@pytest.fixture(scope="module")
def some() -> Examples:
    return examples([dialogue(n)[:2] for n in range(6)] + [("long " * 200, "end"), ("short", "word " * 90)])


def tokenization(some: Examples, model_class: Any, source: int = 64, target: int = 40) -> Tokenization:
    texts = [t for e in some.examples for t in (e.prompt, *e.references)]
    rendering = TemplateRendering(Prompt(f"Sum:\n{{dialogue}}{TAIL}"))
    return Tokenization(train_tokenizer(texts, 400, model_class), model_class, rendering, source, target)


def quiet(done: int, total: int) -> None:
    assert done <= total


def test_seq2seq_rows_are_prompt_and_target(some: Examples) -> None:
    work = tokenization(some, "seq2seq", 512, 128)
    path, counts = work.for_training(some, quiet)
    rows = load_tokens(path)
    first = some.examples[0]
    assert work.tokenizer.decode(rows[0]["input_ids"], skip_special_tokens=True) == first.prompt
    assert work.tokenizer.decode(rows[0]["labels"], skip_special_tokens=True) == first.references[0]
    assert rows[0]["labels"][-1] == rows[0]["input_ids"][-1] == work.tokenizer.eos_token_id
    assert (counts.examples, counts.truncated_targets) == (8, 0)
    assert counts.input_tokens == sum(map(len, rows["input_ids"]))
    assert counts.target_tokens == sum(map(len, rows["labels"]))


def test_causal_rows_learn_the_target_alone_and_its_end(some: Examples) -> None:
    work = tokenization(some, "causal", 512, 128)
    row = load_tokens(work.for_training(some, quiet)[0])[0]
    first = some.examples[0]
    target = [token for token in row["labels"] if token != IGNORED]
    assert work.tokenizer.decode(target[:-1]) == " " + first.references[0]
    assert target[-1] == work.tokenizer.eos_token_id
    assert row["input_ids"][-len(target) :] == target
    prompt = row["input_ids"][: -len(target)]
    assert row["labels"][: len(prompt)] == [IGNORED] * len(prompt)
    # What generation is given is the same prompt, without an end.
    assert load_tokens(work.for_generation(some, quiet)[0])[0]["input_ids"] == prompt
    assert work.tokenizer.decode(prompt) == first.prompt


@pytest.mark.parametrize("model_class", ["seq2seq", "causal"])
def test_long_inputs_lose_their_body_not_the_question_and_are_counted(some: Examples, model_class: Any) -> None:
    work = tokenization(some, model_class)
    path, counts = work.for_training(some, quiet)
    row = load_tokens(path)[6]
    prompt = row["input_ids"] if model_class == "seq2seq" else row["input_ids"][: row["labels"].count(IGNORED)]
    assert len(prompt) == 64
    text = work.tokenizer.decode(prompt, skip_special_tokens=True)
    assert text.startswith("Sum:\nlong")
    assert text.endswith(TAIL)
    whole = [len(work.tokenizer(e.prompt)["input_ids"]) for e in some.examples]
    assert counts.truncated_inputs == sum(length > 64 for length in whole) >= 1
    assert counts.truncated_targets == 1
    target = [token for token in load_tokens(path)[7]["labels"] if token != IGNORED]
    assert (len(target), target[-1]) == (40, work.tokenizer.eos_token_id)


def framed(frame: str, model_class: Any, tail: str, source: int = 24, target: int = 6) -> Tokenization:
    """A tokenization whose tokenizer puts special tokens around every text as `frame` says."""
    tokenizer = train_tokenizer([dialogue(n)[0] for n in range(6)], 400, model_class)
    tokenizer.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<lang>"]})
    names = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>", "<lang>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=frame, special_tokens=names)
    return Tokenization(tokenizer, model_class, TemplateRendering(Prompt(f"{{text}}{tail}")), source, target)


FRAMES = ["$A </s>", "<s> $A </s>", "$A </s> <lang>", "<lang> $A </s>", "$A"]  # T5, BART, mBART, NLLB, none


@pytest.mark.parametrize("frame", FRAMES)
def test_a_cut_prompt_without_a_tail_is_what_the_tokenizer_s_own_truncation_gives(frame: str) -> None:
    work = framed(frame, "seq2seq", "")
    text = "summarize: " + "She went to the market. " * 9
    [(ids, whole)] = work.prompts([{"text": text}])
    assert ids == work.tokenizer(text, truncation=True, max_length=24)["input_ids"]
    assert whole == len(work.tokenizer(text)["input_ids"])


@pytest.mark.parametrize("frame", FRAMES)
def test_a_cut_prompt_keeps_its_tail_and_the_tokenizer_s_closing_tokens_and_no_more(frame: str) -> None:
    work = framed(frame, "seq2seq", TAIL)
    body = "She went to the market. " * 9
    [(kept, _)] = work.prompts([{"text": body}])
    opening, closing = (part.split() for part in frame.split("$A"))
    room = 24 - len(work.tokenizer(TAIL, add_special_tokens=False)["input_ids"]) - len(opening) - len(closing)
    begun = work.tokenizer(body, add_special_tokens=False)["input_ids"][:room]
    bare = [*begun, *work.tokenizer(TAIL, add_special_tokens=False)["input_ids"]]
    ids = work.tokenizer.convert_tokens_to_ids
    assert kept == [*map(ids, opening), *bare, *map(ids, closing)]
    assert len(kept) == 24


WORDS = st.lists(st.sampled_from(["she", "went", " ", "to", "\n", "market.", "é", "界"]), max_size=90).map(" ".join)


@pytest.mark.parametrize("model_class", ["seq2seq", "causal"])
@pytest.mark.parametrize("truncate", [None, "b"])
@given(a=WORDS, b=WORDS)
@settings(max_examples=50, deadline=None)
def test_what_stays_of_a_cut_prompt_are_tokens_of_the_whole_prompt(
    model_class: Any, truncate: str | None, a: str, b: str
) -> None:
    made = train_tokenizer([dialogue(n)[0] for n in range(6)], 400, model_class)
    work = Tokenization(made, model_class, TemplateRendering(Prompt(f"Sum:\n{{a}}\nQ: {{b}}{TAIL}"), truncate), 40, 6)
    row = {"a": a, "b": b}
    text = work.rendering.text(row)
    encoded = made(text, return_offsets_mapping=True)
    whole = work._encode([text])[0]
    [(kept, count)] = work.prompts([row])
    assert (count, len(kept)) == (len(whole), min(len(whole), 40))
    begin = len("Sum:\n"), len("Sum:\n" + a + "\nQ: ")
    places: dict[int, int] = {}  # of each token of a text, which text it is
    for n, (start, end) in enumerate(encoded["offset_mapping"]):
        for place, (first, value) in enumerate(zip(begin, (a, b), strict=True)):
            if first <= start < end <= first + len(value):
                places[n] = place
    most = [list(places.values()).count(place) for place in (0, 1)]

    def with_first(counts: tuple[int, int]) -> list[int]:
        left = list(counts)
        found = []
        for n, token in enumerate(whole):
            if n in places:
                left[places[n]] -= 1
            if n not in places or left[places[n]] >= 0:
                found.append(token)
        return found

    room = len(kept) - (len(whole) - len(places))
    ways = [(n, room - n) for n in range(most[0] + 1) if 0 <= room - n <= most[1] and with_first((n, room - n)) == kept]
    if truncate:
        assert (min(most[0], room), room - min(most[0], room)) in ways
    else:
        assert any(abs(n - m) <= 1 or (n <= m and n == most[0]) or (m <= n and m == most[1]) for n, m in ways)


@pytest.mark.parametrize("frame", ["<s> $A </s>", "<s> $A", "$A </s>"])
@pytest.mark.parametrize("tail", ["", TAIL])
def test_no_eos_closes_the_cut_prompt_of_a_decoder_only_model(frame: str, tail: str) -> None:
    work = framed(frame, "causal", tail)
    [(kept, _)] = work.prompts([{"text": "She went to the market. " * 9}])
    assert len(kept) == 24
    assert work.tokenizer.eos_token_id not in kept
    assert work.tokenizer.decode(kept).endswith(tail)


@pytest.mark.parametrize("frame", ["<s> $A </s>", "<s> $A", "$A"])
def test_an_end_that_the_prompt_writes_stays(frame: str) -> None:
    """As in DialoGPT's turns: `{dialogue}<|endoftext|>`."""
    work = framed(frame, "causal", "")
    [(ids, _)] = work.prompts([{"text": "How are you?</s>"}])
    assert ids[-1] == work.tokenizer.eos_token_id and ids.count(work.tokenizer.eos_token_id) == 1


def test_a_cut_target_keeps_all_closing_tokens() -> None:
    work = framed("$A </s> <lang>", "seq2seq", "")
    rows = load_tokens(work.for_training(examples([("a", "She went to the market. " * 9)]), quiet)[0])
    assert len(rows[0]["labels"]) == 6
    assert work.tokenizer.convert_ids_to_tokens(rows[0]["labels"][-2:]) == ["</s>", "<lang>"]


def test_the_padding_side_of_the_tokenizer_s_file_changes_no_token(some: Examples) -> None:
    found = []
    for side in ("right", "left"):
        work = tokenization(some, "seq2seq")
        work.tokenizer.padding_side = side
        path, _ = work.for_training(some, quiet)
        found.append((path, load_tokens(path)[:]))
    assert found[0] == found[1]


def test_another_frame_of_special_tokens_is_another_cache(some: Examples) -> None:
    paths = {framed(frame, "seq2seq", TAIL).for_training(some, quiet)[0] for frame in FRAMES}
    assert len(paths) == len(FRAMES)


@given(st.lists(st.integers(0, 99), max_size=60), st.integers(2, 40), st.integers(0, 50))
def test_keep_tail_keeps_beginning_and_end(ids: list[int], limit: int, tail: int) -> None:
    kept, cut = keep_tail(ids, limit, tail)
    assert len(kept) == min(len(ids), limit)
    assert cut == (len(ids) > limit)
    assert kept[:1] == ids[:1]
    end = min(tail, limit - 1) if cut else len(ids)
    assert kept[len(kept) - end :] == ids[len(ids) - end :]


def test_the_cache_is_by_content(some: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tokenization(some, "seq2seq")
    path, counts = work.for_training(some, quiet)
    monkeypatch.setattr(Tokenization, "_rows", None)  # a second tokenising would fail
    assert tokenization(some, "seq2seq").for_training(some, quiet) == (path, counts)
    monkeypatch.undo()
    assert tokenization(some, "seq2seq", 63).for_training(some, quiet)[0] != path
    changed = examples([("other", "text")])
    assert work.for_training(changed, quiet)[0] != path


def test_half_a_cache_is_made_again(some: Examples) -> None:
    work = tokenization(some, "seq2seq", 61)
    path, counts = work.for_training(some, quiet)
    (path / "tokens.json").unlink()
    assert work.for_training(some, quiet) == (path, counts)
    assert (path / "tokens.json").is_file()


def test_tokens_that_are_not_what_was_written_are_made_again(some: Examples) -> None:
    work = tokenization(some, "seq2seq", 59)
    path, counts = work.for_training(some, quiet)
    rows = load_tokens(path)[:]
    (file,) = path.glob("*.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()  # another process may have it mapped
    file.write_bytes(content)
    assert work.for_training(some, quiet) == (path, counts)
    assert load_tokens(path)[:] == rows
