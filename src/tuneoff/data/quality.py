"""What is odd about data that can be read: seen before anything is trained, and told with counts and an example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tuneoff.data.examples import Example, Examples
from tuneoff.data.splits import Split
from tuneoff.errors import Problem

MOST = 0.05  # of the scored examples: more that are trained on, too, need data.allow_overlap
TELLING = 0.01  # of the examples: fewer that share a run of words, or have a target of one word, are no news
RUN, STRIDE = 12, 5  # words of a run that is looked for, every so many words: each shared run of 16 words is found
COMMON = -1  # a run that several of the scored examples have is a phrase of the data, and no sign of overlap
CONTAINED = 0.5  # of the targets, from which on it is told that they stand in their inputs
SHORT = 3  # words of a target that may stand in its input by chance
CONSTANT = 0.9  # of the targets that are one and the same
AT_LEAST = 20  # examples, below which shares say nothing


def check_overlap(splits: Mapping[Split, Examples], scored: Split, allowed: bool) -> list[Problem]:
    """Refuses a scored split of which more than a few percent is trained on, unless that is allowed."""
    found, count = _trained_on(splits, scored), len(splits[scored].examples)
    if allowed or len(found) <= max(1, MOST * count):
        return []
    told = f"{_exact(found, scored, count)}. Scores would tell what was learnt by heart"
    return [Problem(("data",), f"{told}: take these rows out of one split, or set data.allow_overlap: true")]


def data_warnings(splits: Mapping[Split, Examples], scored: Split) -> list[str]:
    """A sentence for each oddity."""
    trained_on, count = _trained_on(splits, scored), len(splits[scored].examples)
    told = [_exact(trained_on, scored, count)] if trained_on else []
    near = _shares_runs(splits, scored, {example.id for example in trained_on})
    if len(near) > TELLING * count:
        shared = f"{scored} examples that share {RUN} words in a row or more with an example that is trained on"
        told.append(_counted(shared, near, count))
    told += _groups_trained_on(splits, scored)
    for split in ("train", scored):
        if split in splits:
            told += [f"{split}: {text}" for text in _oddities(splits[split].examples)]
    return told


def _trained_on(splits: Mapping[Split, Examples], scored: Split) -> list[Example]:
    """The scored examples whose prompt is that of a training example, whatever the case and the spaces."""
    if "train" not in splits or scored == "train":
        return []
    known = {_plain(example.prompt) for example in splits["train"].examples}
    return [example for example in splits[scored].examples if _plain(example.prompt) in known]


def _groups_trained_on(splits: Mapping[Split, Examples], scored: Split) -> list[str]:
    """That examples are scored whose group is trained on, too: they are no new documents, users or situations."""
    if "train" not in splits or scored == "train":
        return []
    known = {example.group for example in splits["train"].examples if example.group is not None}
    found = [example for example in splits[scored].examples if example.group in known]
    if not found:
        return []
    return [
        _counted(
            f"{scored} examples of a group (data.group) that is trained on, too", found, len(splits[scored].examples)
        )
    ]


def _exact(found: Sequence[Example], scored: str, count: int) -> str:
    return _counted(f"{scored} examples that are trained on, too", found, count)


def _counted(what: str, found: Sequence[Example], count: int | None = None) -> str:
    of_all = f" of {count:,}" if count is not None else ""
    return f"{what}: {len(found):,}{of_all}, the first is {found[0].id}"


def _shares_runs(splits: Mapping[Split, Examples], scored: Split, known: set[str]) -> list[Example]:
    """The other scored examples that have a rare run of words in common with a training example's columns."""
    if "train" not in splits:
        return []
    examples = splits[scored].examples
    owners: dict[int, int] = {}  # of the hash of each run: the example, or none where more have it
    for place, example in enumerate(examples):
        for run in set(_runs(example, 1)):
            owners[run] = place if run not in owners else COMMON
    met: set[int] = set()
    for example in splits["train"].examples:
        met.update(owners.get(run, COMMON) for run in _runs(example, STRIDE))
    return [examples[place] for place in sorted(met - {COMMON}) if examples[place].id not in known]


def _runs(example: Example, stride: int) -> Iterator[int]:
    for text in example.texts:
        words = text.lower().split()
        for start in range(0, len(words) - RUN + 1, stride):
            yield hash(tuple(words[start : start + RUN]))


def _oddities(examples: Sequence[Example]) -> list[str]:
    """What is odd about the targets of a split."""
    told = []
    targets = [(example, target) for example in examples for target in example.references]
    within = [e for e, target in targets if _is_within(target, e)]
    if len(targets) >= AT_LEAST and len(within) > CONTAINED * len(targets):
        told.append(_counted("targets that stand word for word in their inputs", within, len(targets)))
    most, times = Counter(_plain(target) for _, target in targets).most_common(1)[0]
    if len(targets) >= AT_LEAST and times > CONSTANT * len(targets):
        told.append(f"targets that are all the same: {times:,} of {len(targets):,}, {most[:60]!r}")
    differing = _contradictions(examples)
    if differing:
        told.append(_counted("prompts that occur several times with different targets", differing))
    short = [e for e, target in targets if len(target.split()) == 1 and target.isascii()]
    if TELLING * len(targets) < len(short) < CONTAINED * len(targets):  # where most have one word, they are meant so
        told.append(_counted("targets of a single word", short, len(targets)))
    return told


def _is_within(target: str, example: Example) -> bool:
    plain = _plain(target)
    return len(plain.split()) >= SHORT and any(plain in _plain(text) for text in example.texts)


def _contradictions(examples: Sequence[Example]) -> list[Example]:
    """The first example of each prompt that several examples have, with different targets.

    References of one example are not meant: they are several right answers.
    """
    first: dict[str, Example] = {}
    differing: dict[str, Example] = {}
    for example in examples:
        prompt = _plain(example.prompt)
        before = first.setdefault(prompt, example)
        if _plain(before.references[0]) != _plain(example.references[0]):
            differing[prompt] = before
    return list(differing.values())


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
