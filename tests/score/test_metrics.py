"""Every metric, by hand and by property."""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from tuneoff.errors import MetricError
from tuneoff.score import metrics
from tuneoff.score.metrics import bertscore, check_metrics, find_metric, metrics_signature, shipped_metrics
from tuneoff.score.metrics.numbers import answered_number
from tuneoff.score.metrics.words import words


def figure(metric: str, text: str, *references: str, others: tuple[str, ...] = ()) -> float:
    """Of one example, in a split that has `others` for references, too."""
    found = find_metric(metric)
    scorer = found.prepare([references, *([other] for other in others)])
    assert scorer.score is not None
    return found.of_example(scorer.score(text, references))


@pytest.mark.parametrize(
    "metric",
    [m for m in shipped_metrics().values() if m.by_text and m.corpus is None and m.name != "bertscore"],
    ids=lambda metric: metric.name,
)
@given(
    text=st.text(max_size=30) | st.sampled_from(["{}", "[1, 2]", "yes", "12", "```json\n{}\n```"]),
    reference=st.text(min_size=1, max_size=30).filter(str.strip),
)
def test_a_figure_is_a_share_and_the_reference_itself_is_best(metric, text: str, reference: str) -> None:  # type: ignore[no-untyped-def]
    scorer = metric.prepare([[reference]])
    (written,), (perfect,) = scorer.score(text, [reference]), scorer.score(reference, [reference])
    assert 0 <= written <= 1
    if metric.name != "json_valid":  # asks nothing of the reference
        assert written <= perfect
        assert perfect == 1 or scorer.warnings or metric.name == "rouge2"  # which a single word has none of
    assert scorer.score(text, [reference, reference]) == [written, written]


def test_rouge_by_hand() -> None:
    """3 of 4 words, 1 of 3 pairs, a common subsequence of 3 of 4; sentences are split at line breaks by Lsum alone."""
    known = {"rouge1": 0.75, "rouge2": 1 / 3, "rougeL": 0.75, "rougeLsum": 0.75}
    for metric, value in known.items():
        assert figure(metric, "the cat sat down", "the cat lay down") == pytest.approx(value)
    assert figure("rougeLsum", "b b b\na a a", "a a a\nb b b") == 1
    assert figure("rougeL", "b b b\na a a", "a a a\nb b b") == pytest.approx(0.5)
    assert figure("rouge1", "running dogs", "run dog") == 1  # stems


@given(text=st.text(st.characters(max_codepoint=126), max_size=60), reference=st.text("ab cdXY.1-", max_size=40))
def test_rouge_of_ascii_texts_is_rouge_score_s_to_the_bit(text: str, reference: str) -> None:
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    theirs = RougeScorer(names, use_stemmer=True).score(reference, text)
    assert [figure(name, text, reference) for name in names] == [float(theirs[name].fmeasure) for name in names]


@pytest.mark.parametrize(
    ("text", "reference", "rouge1", "rouge2"),
    [
        ("他们星期五见面。", "他们星期五见面。", 1, 1),
        ("他们星期六见面", "他们星期五见面", 6 / 7, 4 / 6),  # by character
        ("Встреча в пятницу", "встреча в субботу.", 2 / 3, 1 / 2),
        ("Die Züge fahren spät", "Die Zuge fahren spät", 3 / 4, 1 / 3),
        ("Die Zu\u0308ge", "die ZÜGE", 1, 1),  # composed and not, in any case
        ("พบกันวันศุกร์", "พบกันวันศุกร์", 1, 1),
        ("शुक्रवार को मिलेंगे", "शुक्रवार को मिलते", 2 / 3, 1 / 2),  # vowel signs do not split words
        ("그들은 금요일에 만난다", "그들은 토요일에 만난다", 2 / 3, 0),
    ],
)
def test_rouge_of_other_languages(text: str, reference: str, rouge1: float, rouge2: float) -> None:
    assert figure("rouge1", text, reference) == pytest.approx(rouge1)
    assert figure("rouge2", text, reference) == pytest.approx(rouge2)
    assert find_metric("rouge1").prepare([[reference]]).signature["tok"] == "unicode"


def test_the_references_choose_rouge_s_words_and_the_signature_says_which() -> None:
    english = ("They meet René.", "On Friday they talk about the new house by the lake. " * 6)
    signature = find_metric("rouge1").prepare([english]).signature
    assert (signature["stem"], signature["tok"]) == ("porter", "ascii")
    assert figure("rouge1", "meeting", "meet", others=english) == 1
    german = find_metric("rouge1").prepare([["Sie treffen sich am Samstag, und über das Essen wird geredet"]])
    assert (german.signature["stem"], german.signature["tok"]) == ("none", "unicode")
    assert find_metric("rouge1").prepare([["🎈"], ["a"]]).warnings == [
        "1 references without a word that ROUGE sees: it is 0 there, whatever is written"
    ]


def test_words_of_thai_and_chinese_are_letters_with_their_marks() -> None:
    assert words("ที่นี่ 7 Uhr!") == ["ที่", "นี่", "7", "uhr"]
    assert words("汉字 and かな") == ["汉", "字", "and", "か", "な"]


def test_answers_as_squad_compares_them() -> None:
    assert figure("exact_match", "The  Eiffel-Tower!", "a eiffeltower") == 1
    assert figure("exact_match", "Paris", "London", "paris.") == 1  # the best of several
    assert figure("exact_match", "«Париж»", "париж") == 1
    assert figure("token_f1", "the big red house", "a red house by the lake") == pytest.approx(2 * 2 / (3 + 4))
    assert figure("token_f1", "", "yes") == 0
    assert figure("token_f1", "星期五", "星期六") == pytest.approx(2 / 3)


def test_a_label_is_what_is_written_or_the_only_one_that_is_named() -> None:
    labels = ("positive", "negative", "very negative")
    for text, reference, right in [
        ("Positive.", "positive", 1),
        ("The answer is: positive", "positive", 1),
        ("positive or negative", "positive", 0),
        ("It is very negative!", "very negative", 1),
        ("It is very negative!", "negative", 0),
        ("nonpositive", "positive", 0),
        ("", "negative", 0),
    ]:
        assert figure("accuracy", text, reference, others=labels * 3) == right, text
    letters = ("A", "B", "C", "D") * 3
    for text, reference, right in [
        ("A", "A", 1), ("(b)", "B", 1), ("The answer is C.", "C", 1), ("", "A", 0), ("the", "A", 0), ("A or B", "A", 0),
    ]:  # fmt: skip
        assert figure("accuracy", text, reference, others=letters) == right, text
    for text, reference, right in [("C", "C++", 0), ("C++", "C++", 1), ("c#", "C#", 1), ("C++ code", "C++", 1)]:
        assert figure("accuracy", text, reference, others=("C", "C++", "C#") * 3) == right, text
    nli = ("entailment", "not_entailment") * 3
    assert figure("accuracy", "Not entailment", "not_entailment", others=nli) == 1
    assert find_metric("accuracy").prepare([["a b"], ["c d"], ["e f"]]).warnings


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 * 4 = 12 eggs.", "12"), ("#### 1,234.50", "1234.5"), ("x = -7", "-7"), ("5-3", "3"), ("10−4", "4"),
        ("about 1e3", "1000"), ("$2,000", "2000"), (".5", "0.5"), ("#### 42\n", "42"), ("day 3,", "3"), ("١٢", "12"),
        ("none", None), ("…", None), ("base64", None), ("Phase3 in room E5", None), ("x2 = 7", "7"),
        ("#### 18\nQuestion: Tom has 3 cats", "18"), ("1e5x", "1"),
    ],
)  # fmt: skip
def test_the_number_of_an_answer(text: str, number: str | None) -> None:
    assert answered_number(text) == (None if number is None else Decimal(number))


def test_numbers_are_compared_as_numbers() -> None:
    assert figure("number", "She pays $1,050.00 in all", "500 + 550 = 1050\n#### 1050") == 1
    assert figure("number", "no idea", "#### 3") == 0
    assert find_metric("number").prepare([["three"]]).warnings


def test_fields_of_json() -> None:
    call = {"name": "book", "arguments": {"day": "friday", "seats": 2, "with": ["ann", "ben"]}}
    text = json.dumps(call)
    other = {"arguments": {"seats": 2.0, "with": ["ben", "ann"], "day": "monday"}, "name": "book"}
    assert figure("json_fields", f"```json\n{text}\n```", text) == 1
    assert figure("json_fields", json.dumps(other), text) == pytest.approx(4 / 5)
    assert figure("json_fields", f"Sure! {text}", text) == 0
    assert [figure("json_valid", t, text) for t in ("[]", "{", "3", "")] == [1, 0, 0, 0]
    assert figure("json_fields", "[" * 100_000, text) == 0
    assert figure("json_fields", '{"id": 9007199254740993}', '{"id": 9007199254740992}') == 0
    assert figure("json_fields", '{"id": ' + "1" * 400 + "}", '{"id": 1}') == 0
    assert figure("json_valid", '{"x": NaN}', text) == 0


def test_a_metric_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = "def same_start(text, reference):\n    return text[:1] == reference[:1]\n\ndef wrong(*_):\n    return 7\n"
    (tmp_path / "my_metrics.py").write_text(source)
    assert figure("my_metrics:same_start", "abc", "axy") == 1
    signature = find_metric("my_metrics:same_start").prepare([]).signature
    assert re.fullmatch(r"[0-9a-f]{8}", signature["my_metrics.same_start"])
    for name, message in [
        ("my_metrics:wrong", "is to return a figure from 0 to 1, and gave 7 for 'abc'"),
        ("my_metrics:missing", "cannot be loaded: AttributeError"),
        ("no_such_module:f", "cannot be loaded: ModuleNotFoundError"),
        ("json:loads", "failed on 'abc': TypeError"),
    ]:
        with pytest.raises(MetricError, match=message):
            figure(name, "abc", "axy")


def test_names_are_checked() -> None:
    (problem,) = check_metrics(["rouge1", "rouge_1"])
    assert str(problem) == (
        "evaluation.metrics.1: there is no metric 'rouge_1'; did you mean 'rouge1'? "
        "A function of your own is named as module:function"
    )


def test_the_signature_of_several_says_what_they_share_once() -> None:
    scorers = [find_metric(name).prepare([["a"]]) for name in ("rouge1", "rougeL", "exact_match")]
    assert list(metrics_signature(scorers)) == ["metric", "version", "stem", "tok", "exact_match"]


def test_a_file_among_the_metrics_is_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that docs/metrics.md shows."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "jaccard.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    metrics.shipped_metrics.cache_clear()
    try:
        assert figure("jaccard", "three words here", "two words") == pytest.approx(1 / 4)
    finally:
        metrics.shipped_metrics.cache_clear()
        sys.modules.pop(f"{metrics.__name__}.jaccard", None)


def test_every_metric_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in shipped_metrics() if f"`{name}`" not in page] == []


def test_only_what_the_compared_metrics_depend_on_is_compared() -> None:
    both = find_metric("rouge1"), find_metric("lab.scores:own")
    fields = metrics.compared_fields("metric:rouge_score|lab.scores.own:1234|token_f1:squad|n:3|seed:7", both)
    assert fields == {"metric": "rouge_score", "lab.scores.own": "1234", "n": "3", "tok": "ascii"}
    assert "lab.scores.own" not in metrics.compared_fields("lab.scores.own:1234|n:3", both[:1])


def test_labels_of_marks_alone_are_labels() -> None:
    assert (figure("accuracy", "-", "-", others=("+",)), figure("accuracy", "+", "-", others=("+",))) == (1, 0)


def test_length_by_hand() -> None:
    assert figure("length", "three words here", "two words") == pytest.approx(2 / 3)
    assert (figure("length", "", "two words"), figure("length", "他们", "見面")) == (0, 1)


def test_losses_are_judged_and_texts_are_not() -> None:
    found = find_metric("token_loss")
    scorer = found.prepare([["a"]])
    assert scorer.score is None and scorer.judge is not None
    assert scorer.judge([(6.0, 3), (2.0, 2)]) == [2.0, 1.0]
    assert (found.of_example([2.0, 1.0]), found.shown(1.5), found.shown(-0.00004, sign=True)) == (
        1.5,
        "1.5000",
        "+0.0000",
    )


def test_references_of_marks_alone_are_compared_as_they_are() -> None:
    for metric in ("exact_match", "token_f1"):
        assert (figure(metric, "-", "+"), figure(metric, "👎", "👍"), figure(metric, "", "+")) == (0, 0, 0)
        assert (figure(metric, " + ", "+"), figure(metric, "👍", "👍")) == (1, 1)


def test_bertscore_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not here; in its place stands one that counts shared letters and is called in the same way."""
    with pytest.raises(MetricError, match=r"bertscore needs the package bert-score: pip install bert-score"):
        figure("bertscore", "a", "a")

    class BERTScorer:
        def __init__(self, lang: str) -> None:
            self.share = {"en": 1.0, "other": 0.5}[lang]

        def score(self, cands: list[str], refs: list[str]) -> tuple[list[float], ...]:
            found = [
                self.share * len({*one} & {*other}) / len({*one} | {*other})
                for one, other in zip(cands, refs, strict=True)
            ]
            return found, found, found

    module = ModuleType("bert_score")
    module.__spec__ = ModuleSpec("bert_score", None)
    module.BERTScorer = BERTScorer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bert_score", module)
    bertscore._scorer.cache_clear()
    try:
        assert figure("bertscore", "ab", "abcd", "ab") == 1
        assert figure("bertscore", "щу", "щука") == pytest.approx(0.25)
        assert find_metric("bertscore").prepare([["Щука"]]).signature == {"bertscore": "bert-base-multilingual-cased"}
    finally:
        bertscore._scorer.cache_clear()
