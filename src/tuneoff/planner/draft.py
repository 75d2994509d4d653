"""A data set → a recipe for it, and what was found on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tuneoff.builtin import PREFIX, located
from tuneoff.builtin.packages import FETCHED
from tuneoff.data.compression import inner_suffix
from tuneoff.data.examples import Examples
from tuneoff.data.formats import USUAL, UTF8, GivenFormat, find_format
from tuneoff.data.guess import Columns, guess_columns
from tuneoff.data.sources import open_source
from tuneoff.data.splits import Split, open_splits, read_splits
from tuneoff.errors import DataError
from tuneoff.planner.fit import this_machine
from tuneoff.recipe.data import DataSpec
from tuneoff.recipe.load import make_recipe
from tuneoff.recipe.schema import Recipe
from tuneoff.recipe.template import NewRecipe, recipe_text
from tuneoff.units import bytes_text, count_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_MODEL = "builtin:smollm2-135m-instruct"
LOOKED_AT = 1000  # rows that columns are guessed from
FEWEST = 10  # distinct inputs of data that have no test split of their own
PARTS = ("validation", "test")
VALIDATION_NAMES = ("validation", "valid", "val", "dev")
LETTERS_PER_TOKEN = 3  # of English, at least, where no tokenizer is at hand; of other languages 1
# Of full fine-tuning's and LoRA's learning rate: of the models of the demos, and of others.
RATES = {"builtin:dialog-t5-nano": (5e-4, 1e-3), DEFAULT_MODEL: (1e-4, 1e-3)}
OTHER_RATES = (5e-5, 5e-4)
# Bytes a parameter: weights, gradients and AdamW's two moments in fp32 with a copy in bf16; and a frozen base in bf16.
FULL_BYTES, LORA_BYTES = 18, 3
FOR_WEIGHTS = 0.7  # of the memory; the rest is for activations
SLOW_ABOVE = 3e8  # parameters, on a CPU
MODELS = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": 135e6, "google/flan-t5-base": 248e6, "Qwen/Qwen2.5-0.5B-Instruct": 494e6,
    "Qwen/Qwen2.5-1.5B-Instruct": 1.54e9, "Qwen/Qwen2.5-3B-Instruct": 3.09e9, "Qwen/Qwen2.5-7B-Instruct": 7.62e9,
}  # fmt: skip
NOUNS = {"dialogue", "article", "document", "ticket", "email", "question", "review", "message", "passage"}
OUTPUT_NOUNS = {"summary", "answer", "response", "reply", "resolution", "translation", "label", "category", "title"}


@dataclass(frozen=True)
class Draft:
    """A recipe's text, and what a person should know of how it came about, a line each."""

    text: str
    findings: list[str]


def draft_recipe(data: str, model: str, absolute: bool) -> Draft:
    """A recipe for `data` (a file, a folder or a name on the hub) and `model`; paths `absolute`, or as given.

    Raises DataError where the data cannot be read, or have no inputs with targets.
    """
    path = Path(data)
    source = str(path.resolve()) if absolute and path.exists() else data
    spec: dict[str, Any] = {"source": source}
    findings = []
    if path.is_file() and inner_suffix(path) in USUAL:
        form = find_format(path, GivenFormat())
        spec |= {"delimiter": form.delimiter} if form.delimiter != USUAL[inner_suffix(path)] else {}
        spec |= {"encoding": form.encoding} if form.encoding != UTF8 else {}
        findings += [form.notice] if form.notice is not None else []
    splits = _splits(spec)
    spec |= {"splits": splits} if splits else {}
    columns = _columns(spec)
    if columns.layout is None:
        spec |= {"input": columns.input, "target": columns.target}
        left = f"; left aside: {', '.join(columns.others)}" if columns.others else ""
        beside = f", with {columns.beside!r} in the prompt" if columns.beside is not None else ""
        findings.append(f"columns: input {columns.input!r}{beside}, target {columns.target!r} ({columns.why}){left}")
    else:
        findings.append(f"conversations: {columns.layout}")
    prompt = _prompt(columns) if columns.layout is None else None
    spec |= {"split": parts} if (parts := _parts(spec, prompt)) else {}
    trial = _recipe(spec | {"on_bad_row": "skip"}, prompt)
    found = read_splits(trial, open_splits(trial))
    bad = [place for examples in found.values() for place in examples.skipped_places]
    if bad:
        spec["on_bad_row"] = "skip"
        findings.append(f"bad rows: {len(bad):,} are left out (on_bad_row: skip); the first: {bad[0]}")
    told = ", ".join(f"{name} {len(examples.examples):,}" for name, examples in found.items())
    findings.append(f"split: {told} examples{'; the same input is never in two of them' if parts else ''}")
    lengths = _Lengths(found, columns, model)
    findings += lengths.findings
    spec |= {"max_source_length": lengths.source_limit, "max_target_length": lengths.target_limit}
    machine, advice = _machine()
    findings.append(f"machine: {machine}. {advice}")
    metrics = _metrics(found, columns)
    text = recipe_text(
        NewRecipe(
            model=model,
            data=spec,
            prompt=prompt,
            learning_rates=RATES.get(model, OTHER_RATES),
            epochs=3 if len(found["train"].examples) < 2000 else 1,
            max_new_tokens=lengths.target_limit,
            metrics=metrics,
            words=_words(columns),
            comments=_comments(machine, advice, columns, lengths, told),
        )
    )
    make_recipe(yaml.safe_load(text))
    return Draft(text, findings)


def _splits(spec: dict[str, Any]) -> dict[str, str | None]:
    """What the data's own splits are called, where that is not as usual. Raises DataError."""
    names = open_source(DataSpec.model_validate({**spec, "split": {"test": FEWEST}})).splits
    found: dict[str, str | None] = {}
    if "train" not in names:
        if len(names) != 1:
            raise DataError(
                f"the data have no split 'train', but {', '.join(names)}: name them in a recipe's data.splits"
            )
        found["train"] = names[0]
    validation = next((name for name in VALIDATION_NAMES if name in names), "validation")
    return found | ({"validation": validation} if validation != "validation" else {})


def _columns(spec: dict[str, Any]) -> Columns:
    loaded = DataSpec.model_validate({**spec, "split": {"test": FEWEST}})
    rows = islice(open_source(loaded).rows(loaded.splits.train), LOOKED_AT)
    readable = [row.columns for row in rows if row.unreadable is None]
    if not readable:
        raise DataError(f"{spec['source']} has no row that can be read")
    return guess_columns(readable)


def _parts(spec: dict[str, Any], prompt: str | None) -> dict[str, int | float]:
    """What is split off the training split: a tenth each, more of little data, and at most 1,000."""
    recipe = _recipe({**spec, "split": {"test": FEWEST}}, prompt)
    source = open_splits(recipe)
    assert source.parting is not None
    own = open_source(recipe.data).splits
    missing = [part for part in PARTS if getattr(recipe.data.splits, part) not in own]
    if not missing:
        return {}
    count = source.parting.count(open_source(recipe.data).rows(recipe.data.splits.train))
    if count < FEWEST:
        raise DataError(f"{spec['source']} has {count} distinct inputs, too few to split: {FEWEST} are the fewest")
    share: int | float = 1000 if count > 10_000 else 0.1 if count >= 200 else 0.2
    return dict.fromkeys(missing, share)


def _recipe(data: dict[str, Any], prompt: str | None) -> Recipe:
    """A recipe that only reads the data."""
    values = {"model": DEFAULT_MODEL, "data": data, "arms": {"full": {"method": "full", "learning_rate": 1e-4}}}
    return make_recipe({**values, **({"prompt": prompt} if prompt is not None else {})}).recipe


def _prompt(columns: Columns) -> str:
    before = f"{{{columns.beside}}}\n\n" if columns.beside is not None else ""
    if columns.target.lower() in ("summary", "highlights"):
        return f"Summarize the following {_noun(columns.input)}.\n{before}{{{columns.input}}}\nSummary:"
    return f"{before}{{{columns.input}}}\n\n{columns.target[:1].upper()}{columns.target[1:]}:"


def _noun(name: str) -> str:
    return name.lower() if name.lower() in NOUNS else "text"


def _words(columns: Columns) -> dict[str, str]:
    if columns.input.lower() not in NOUNS or columns.target.lower() not in OUTPUT_NOUNS:
        return {}
    return {"example": columns.input.lower(), "output": columns.target.lower()}


def _metrics(found: dict[Split, Examples], columns: Columns) -> list[str]:
    """Accuracy of labels, ROUGE of English texts, else chrF: ROUGE as it is computed here ignores other letters."""
    targets = [example.references[0] for example in found["train"].examples]
    distinct = len(set(targets))
    if columns.layout is None and distinct <= min(50, len(targets) / 5) and all(len(t.split()) <= 4 for t in targets):
        return ["accuracy"]
    english = sum(target.isascii() for target in targets) > 0.9 * len(targets)
    return ["rouge1", "rouge2", "rougeL"] if english and columns.layout is None else ["chrf", "rougeL"]


class _Lengths:
    """The lengths of inputs and targets: in the model's tokens where its tokenizer is here, else in characters."""

    def __init__(self, found: dict[Split, Examples], columns: Columns, model: str) -> None:
        every = [example for examples in found.values() for example in examples.examples]
        tokenizer = _tokenizer(model)
        unit = f"tokens of {model}" if tokenizer is not None else "characters"
        english = sum(example.prompt.isascii() for example in every) > 0.9 * len(every)
        letters = LETTERS_PER_TOKEN if tokenizer is None and english else 1
        self.estimated = tokenizer is None
        inputs = _measure([e.input if columns.layout else e.prompt for e in every], tokenizer)
        targets = _measure([text for e in every for text in e.references], tokenizer)
        self.findings = [
            f"{what}, in {unit}: {_spread(one)}" for what, one in (("inputs", inputs), ("targets", targets))
        ]
        self.source_limit = _limit(inputs, letters, 64, 128, 1024)
        self.target_limit = _limit(targets, letters, 16, 16, 512)
        self.longer = sum(length / letters > self.source_limit for length in inputs)


def _limit(lengths: list[int], letters: int, step: int, least: int, most: int) -> int:
    """So many tokens that 99 % of the lengths are within them, with some room."""
    wanted = 1.1 * lengths[round(0.99 * (len(lengths) - 1))] / letters + 8
    return int(min(most, max(least, -(-wanted // step) * step)))


def _spread(lengths: list[int]) -> str:
    return f"{lengths[0]:,} to {lengths[-1]:,}, half of them at most {lengths[(len(lengths) - 1) // 2]:,}"


def _measure(texts: list[str], tokenizer: Tokenizer | None) -> list[int]:
    """The lengths of texts, in order of size."""
    return sorted(len(tokenizer.encode(text).ids) if tokenizer is not None else len(text) for text in texts)


def _tokenizer(model: str) -> Tokenizer | None:
    """The model's tokenizer where its file is on this machine; nothing is fetched."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from tokenizers import Tokenizer

    if model.removeprefix(PREFIX) in FETCHED and model.startswith(PREFIX):
        return None
    file = Path(located(model)) / "tokenizer.json"
    if not file.is_file():
        try:
            cached = try_to_load_from_cache(model, "tokenizer.json")
        except HFValidationError:
            return None
        if not isinstance(cached, str):
            return None
        file = Path(cached)
    return Tokenizer.from_file(str(file))


def _machine() -> tuple[str, str]:
    """The device with its memory, and which sizes of models that is about enough for."""
    from tuneoff.model.device import pick_device

    device, kind = this_machine(), pick_device().type
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = f"no GPU, {cores} CPU cores" if kind == "cpu" else device.name if kind == "cuda" else "a GPU of Apple's"
    full, lora = (FOR_WEIGHTS * device.capacity / size for size in (FULL_BYTES, LORA_BYTES))
    usable = min(full, SLOW_ABOVE) if kind == "cpu" else full
    start = max((name for name, size in MODELS.items() if size <= usable), key=MODELS.__getitem__, default=None)
    advice = f"Room for full fine-tuning of about {count_text(full)} parameters, for LoRA on about {count_text(lora)}"
    advice += f"; on a CPU more than {count_text(SLOW_ABOVE)} are slow" if kind == "cpu" else ""
    advice += f". One that fits: {start}" if start is not None else ""
    return f"{name}, {bytes_text(device.capacity)} memory", advice


def _comments(machine: str, advice: str, columns: Columns, lengths: _Lengths, told: str) -> dict[str, str]:
    comments = {
        "model": f"This machine has {machine}.\n{advice}; `tuneoff plan` computes it.\n"
        "An encoder-decoder or chat model of the hub, a folder, or builtin:dialog-t5-nano (tiny, offline: for trials).",
        "split": f"shares of the distinct inputs, or numbers: {told} examples; split_seed: 1 gives others",
        "encoding": "found, as was the delimiter where one is given",
        "on_bad_row": "leaves out rows that cannot be read or lack an input or target; `error` stops at the first",
        "max_source_length": f"tokens; longer inputs are cut. Here {_longer(lengths)}",
        "training": "micro_batch is left open: the plan takes the largest that fits. max_steps: 50 is a short trial.",
    }
    if columns.layout is None:
        comments["input"] = f"the columns were guessed: {columns.why}"
    return comments


def _longer(lengths: _Lengths) -> str:
    estimated = ", as estimated from their characters" if lengths.estimated else ""
    return f"{lengths.longer:,} inputs are longer{estimated}"
