"""The pretraining's examples: what is asked can be answered from what is shown."""

from __future__ import annotations

import random

import pytest
from corpus import Document
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import Encoded, Objectives, Vocabulary
from reported import report, reported

WORDS = Vocabulary(sentinels=list(range(900, 1000)), eos=1, words=range(3, 900))


def encode(text: str) -> list[int]:
    return [3 + sum(map(ord, word)) % 800 for word in text.split()]


class OneAffair:
    """Stands for the affairs: always the same one."""

    def draw(self, rng: random.Random) -> tuple[list[str], str]:
        return ["#Person1#: May I park here?", "#Person2#: Until noon."], "#Person1# may park until noon."


OBJECTIVES = Objectives(encode, WORDS, OneAffair())


def encoded(units: list[str]) -> Encoded:
    return Encoded(Document("test", units), [encode(unit) for unit in units])


SOME = st.sampled_from(["when", "will", "the", "parcel", "come", "at", "noon", "12:30"])
TURNS = st.lists(st.lists(SOME, min_size=1, max_size=30))
DOCUMENTS = TURNS.filter(len).map(lambda t: [f"#Person{n % 2 + 1}#: {' '.join(words)}" for n, words in enumerate(t)])


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(0, 10_000), st.sampled_from([(40, 16), (96, 48)]))
def test_every_example_fits_and_ends(units: list[str], seed: int, shape: tuple[int, int]) -> None:
    source, target = OBJECTIVES.draw(encoded(units), random.Random(seed), *shape)
    assert len(source) <= shape[0]
    assert len(target) <= shape[1]
    assert source[-1] == target[-1] == WORDS.eos
    assert source.count(WORDS.eos) == target.count(WORDS.eos) == 1


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.integers(0, 10_000))
def test_the_spans_put_back_give_the_text(units: list[str], seed: int) -> None:
    document = encoded(units)
    source, target = OBJECTIVES._spans(document, random.Random(seed), 4000)
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in WORDS.sentinels:
            spans[token] = last = []
        else:
            last.append(token)
    whole = [t for token in source for t in spans.get(token, [token])]
    assert whole == [token for unit in document.units for token in unit]


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS.filter(lambda units: len(units) > 1), st.integers(0, 10_000))
def test_what_is_to_be_found_is_there_and_its_words_are_given(units: list[str], seed: int) -> None:
    document = encoded(units)
    found = OBJECTIVES._find(document, random.Random(seed), 4000)
    if found is not None:
        source, target = found
        assert target in document.units
        text = source[-sum(map(len, document.units)) :]
        assert text == [token for unit in document.units for token in unit]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Could you call me tomorrow?", "#Person1# asks #Person2# to call #Person1# tomorrow."),
        (
            "Well, I'd like to book a table for my sister.",
            "#Person1# would like to book a table for #Person1#'s sister.",
        ),
        ("I need a ride to your office.", "#Person1# needs a ride to #Person2#'s office."),
        ("Do you have any black tea?", "#Person1# asks whether #Person2# has any black tea."),
        ("Would you like me to reserve it?", "#Person1# offers to reserve it."),
        ("You should tell us before noon.", "#Person1# tells #Person2# that #Person2# should tell them before noon."),
        ("The train leaves at nine.", "#Person1# says that the train leaves at nine."),
        ("I think I'll take the other one.", "#Person1# thinks #Person1# will take the other one."),
        ("Blue and white stripes everywhere.", None),
        ("Thanks!", None),
    ],
)
def test_reported_speech(said: str, told: str | None) -> None:
    assert reported(said, 1) == told


def test_a_report_has_the_first_the_longest_and_the_last() -> None:
    units = [
        "#Person1#: Hello. I want a cheap room.",
        "#Person2#: You can stay here for forty dollars a night. You can park too.",
        "#Person1#: I'll take it then, thanks.",
    ]
    assert report(units) == (
        "#Person1# wants a cheap room. #Person2# tells #Person1# that #Person1# can stay here for forty dollars a "
        "night. #Person1# will take it then, thanks."
    )
    assert report(["#Person1#: Hello.", "#Person2#: Hi!"]) is None
