"""Statistics of `builtin:everyday` for its data card, as Markdown: `python tools/everyday/card.py`."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from itertools import permutations
from statistics import mean

import yaml
from generate import HERE, OUT, read_sketches

from tuneoff.score.metrics import find_metric

SPLITS = ("train", "validation", "test", "handwritten")
METRICS = ("rouge1", "rouge2", "rougeL")
SHINGLE = 5  # words
NEAR = 0.5  # Jaccard index of shingles from which two dialogues count as nearly the same

Rows = dict[str, list[dict[str, str]]]  # a dialogue -> its rows


def read(split: str) -> Rows:
    rows: Rows = defaultdict(list)
    for line in (OUT / f"{split}-00000-of-00001.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["dialogue"]].append(row)
    return rows


def words(text: str) -> list[str]:
    return re.findall(r"[\w#$']+", text.lower())


def grams(text: str, size: int) -> set[tuple[str, ...]]:
    found = words(text)
    return set(zip(*(found[n:] for n in range(size)), strict=False))


def novel_bigrams(rows: Rows) -> float:
    """The share of the summaries' bigrams that their dialogues do not have."""
    shares = []
    for dialogue, group in rows.items():
        known = grams(dialogue, 2)
        shares += [len(own - known) / len(own) for own in (grams(row["summary"], 2) for row in group)]
    return mean(shares)


def lead(rows: Rows, turns: int) -> list[float]:
    """ROUGE F × 100 of the first turns, tags included, as the summary; mean over references, then dialogues."""
    pairs = [(" ".join(d.split("\n")[:turns]), [row["summary"] for row in group]) for d, group in rows.items()]
    scorers = [find_metric(name).prepare([own for _, own in pairs]) for name in METRICS]
    return [100 * mean(mean(scorer.score(text, own)) for text, own in pairs) for scorer in scorers]


def agreement(split: str, rows: Rows) -> float:
    """ROUGE-1 F × 100 of one summary by another of the same dialogue: what a writer who knows the style could reach.

    Of a split made from sketches their three summaries are compared, slots unfilled.
    """
    groups = [[row["summary"] for row in group] for group in rows.values()]
    if split != "handwritten":
        shared = yaml.safe_load((HERE / "slots.yaml").read_text(encoding="utf-8"))
        groups = [sketch.outcomes[0]["summary"] for sketch in read_sketches(HERE / "sketches" / split, shared)]
    rouge1 = find_metric("rouge1").prepare(groups)
    return 100 * mean(rouge1.score(a, [b])[0] for group in groups for a, b in permutations(group, 2))


def overlap(rows: Rows, trained: Rows) -> tuple[float, float]:
    """(share of dialogues nearly the same as one that is trained on, the largest Jaccard index of any)."""
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes = []
    for number, dialogue in enumerate(trained):
        shingles = grams(dialogue, SHINGLE)
        sizes.append(len(shingles))
        for shingle in shingles:
            index[shingle].append(number)
    nearest = []
    for dialogue in rows:
        shingles = grams(dialogue, SHINGLE)
        shared: dict[int, int] = defaultdict(int)
        for shingle in shingles:
            for number in index.get(shingle, ()):
                shared[number] += 1
        nearest.append(max((n / (len(shingles) + sizes[other] - n) for other, n in shared.items()), default=0.0))
    return sum(value >= NEAR for value in nearest) / len(nearest), max(nearest)


def main() -> None:
    data = {split: read(split) for split in SPLITS}
    print("| split | dialogues | scenes | references | turns | words | summary words | novel bigrams | agreement |")
    print("| --- " * 9 + "|")
    for split, rows in data.items():
        every = [row for group in rows.values() for row in group]
        turns = [dialogue.count("\n") + 1 for dialogue in rows]
        print(
            f"| {split} | {len(rows):,} | {len({row.get('scene') for row in every} - {None}) or 'each its own'} "
            f"| {len(every) / len(rows):.2g} | {mean(turns):.1f} ({min(turns)}–{max(turns)}) "
            f"| {mean(len(words(dialogue)) for dialogue in rows):.0f} "
            f"| {mean(len(words(row['summary'])) for row in every):.0f} | {100 * novel_bigrams(rows):.0f} % "
            f"| {agreement(split, rows):.0f} |"
        )
    print("\n| split | LEAD-1 | LEAD-3 | near-duplicates of training dialogues | largest overlap |")
    print("| --- " * 5 + "|")
    for split in SPLITS[1:]:
        share, largest = overlap(data[split], data["train"])
        leads = (" / ".join(f"{score:.1f}" for score in lead(data[split], turns)) for turns in (1, 3))
        print(f"| {split} | {' | '.join(leads)} | {100 * share:.1f} % | {largest:.2f} |")


if __name__ == "__main__":
    main()
