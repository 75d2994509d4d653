"""Which model families and which methods of peft work? Every one is trained, saved, loaded again and made to write.

    python bench/methods.py [--only NAME]... [--write docs/methods.md] [--jobs 2]

Models are tiny and of random weights (bench/families.py), the data are made here, and everything is in fp32. Each
family is carried out with full fine-tuning and LoRA, each method of the installed peft on a T5 and on a Llama, by the
code of a run: inputs, engines, rehearsal, trial. A case `works` if its trial ends with all of its checks and plain
transformers and peft write the texts of its first predictions from what it saved; it is `refused` if the user is told
in one line before anything is trained. Everything else is a fault, and the script then ends with status 1.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
from peft import PeftModel
from peft import __version__ as peft_version
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers import __version__ as transformers_version
from transformers.utils import logging as transformers_logging

from families import FAMILIES
from tuneoff.data.inputs import read_inputs
from tuneoff.errors import RecipeError, TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.model.device import Precision
from tuneoff.model.engines import choose_engines
from tuneoff.model.methods import uses_peft
from tuneoff.recipe import Recipe, Trial
from tuneoff.records import read_predictions
from tuneoff.runner.evaluation import TrialEvaluation
from tuneoff.runner.events import Reporter
from tuneoff.runner.rehearsal import rehearse
from tuneoff.runner.resolve import resolve
from tuneoff.runner.stop import Stop
from tuneoff.runner.training import TrialTraining

PROMPT = "Tell what was bought.\n{text}\nAnswer:"
MODELS = {"T5": "t5-gated", "Llama": "llama"}
TOKENS = {"num_virtual_tokens": 4}
# What a method needs besides its defaults on a model of 32 dimensions; target_modules are the family's own.
SETTINGS: dict[str, dict[str, Any]] = {
    "adalora": {"init_r": 4, "target_r": 2}, "adaption_prompt": {"adapter_len": 4, "adapter_layers": 1},
    "boft": {"boft_block_size": 4}, "c3a": {"block_size": 8}, "cartridge": TOKENS, "cpt": {"cpt_token_ids": [5, 6, 7]},
    "fourierft": {"n_frequency": 20}, "gralora": {"r": 4, "gralora_k": 2}, "lily": {"r": 4}, "lora": {"r": 4},
    "miss": {"r": 4}, "psoft": {"r": 4}, "road": {"group_size": 8}, "shira": {"r": 2},
    "multitask_prompt_tuning": {**TOKENS, "num_tasks": 1}, "oft": {"oft_block_size": 8}, "p_tuning": TOKENS,
    "prefix_tuning": TOKENS, "prompt_tuning": TOKENS, "randlora": {"r": 4},
    "trainable_tokens": {"token_indices": list(range(3, 320))}, "unilora": {"r": 4},
    "vblora": {"r": 2, "num_vectors": 8, "vector_length": 8, "topk": 2}, "vera": {"r": 4},
    "waveft": {"n_frequency": 20},
}  # fmt: skip
WITHOUT_TARGETS = {
    "adaption_prompt", "cartridge", "cpt", "ia3", "ln_tuning", "multitask_prompt_tuning", "p_tuning", "prefix_tuning",
    "prompt_tuning", "trainable_tokens", "xlora", "shadow", "poly", "beft", "osf",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One arm to carry out: a family of models, and a method with its settings."""

    name: str
    family: str
    method: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """What became of a case: `works` or `refused` (with the line that the user is told), else a fault."""

    case: str
    outcome: str
    line: str = ""
    engine: str = ""
    trainable: int = 0


def cases() -> list[Case]:
    """Every family with full fine-tuning and LoRA, then every method of peft on two models."""
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    found = []
    for name, family in FAMILIES.items():
        lora = {"r": 4, "lora_alpha": 8, "target_modules": list(family.targets)}
        found += [Case(f"{name}/full", name, "full", {}), Case(f"{name}/lora", name, "lora", lora)]
    for method in sorted(str(kind.value).lower() for kind in PEFT_TYPE_TO_CONFIG_MAPPING):
        for shown, family in MODELS.items():
            targets = {} if method in WITHOUT_TARGETS else {"target_modules": list(FAMILIES[family].targets)}
            found.append(Case(f"{method}@{shown}", family, method, {**targets, **SETTINGS.get(method, {})}))
    return found


def write_data(folder: Path) -> None:
    """Short texts that name who bought what, with a sentence as target."""
    rng = random.Random(7)
    names, things = ["Ada", "Ben", "Cleo", "Dan"], ["a lamp", "two tents", "the blue bike", "some chairs"]
    for split, count in (("train", 24), ("test", 6)):
        lines = []
        for n in range(count):
            who, what, more = rng.choice(names), rng.choice(things), "It rains. " * rng.randrange(6)
            text = f"{who} went to the market. {more}{who} bought {what}."
            lines.append(json.dumps({"id": f"{split}{n}", "text": text, "target": f"{who} bought {what}."}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))


def carry_out(case: Case, data: Path, folder: Path) -> Finding:
    """The case by the code of a run, in this process."""
    values = {
        "model": {"config": FAMILIES[case.family].config, "tokenizer": {"vocab_size": 320}},
        "data": {"source": str(data), "input": "text", "target": "target", "splits": {"validation": None}},
        "prompt": PROMPT,
        "arms": {"arm": {"method": case.method, "learning_rate": 3e-3, **case.settings}},
        "training": {"max_steps": 12, "examples_per_step": 4, "micro_batch": 2, "precision": "fp32"},
        "evaluation": {"max_new_tokens": 6},
    }
    quiet, run = Reporter(io.StringIO()), RunFolder(folder)
    try:
        recipe = Recipe.model_validate(values)
        inputs = read_inputs(recipe, run.base, quiet)
        engines = choose_engines(inputs.config, recipe.arms, recipe.training)
        problems, _ = rehearse(recipe, inputs, engines, Precision("fp32", "as the recipe says"), quiet)
        if problems:
            raise RecipeError(problems)
        resolved = resolve(recipe, run, inputs, quiet, engines, recipe.training.examples_per_step)
    except TuneoffError as error:
        return Finding(case.name, "refused", str(error))
    trial = run.trial("arm", 0)
    parts = (resolved, Trial("arm", 0), trial, quiet, Stop())
    TrialTraining(*parts).run()
    result = TrialEvaluation(*parts).run()
    checks, training = result.checks, result.training
    assert checks is not None and training is not None and result.parameters is not None
    if checks.moved is None or checks.moved.moved < checks.moved.trainable or checks.reloaded_loss is None:
        return Finding(case.name, "fault: a check was not made", str(checks.not_checked))
    differing = written_elsewise(case, resolved.model_path, trial.model, trial.predictions)
    if differing:
        return Finding(case.name, "fault: plain libraries write something else", differing)
    return Finding(case.name, "works", "", result.engine or "", result.parameters.trainable)


@torch.no_grad()
def written_elsewise(case: Case, base: str, saved: Path, predictions: Path) -> str:
    """The first text that plain transformers and peft write differently from what was saved; empty where none."""
    cls = AutoModelForSeq2SeqLM if FAMILIES[case.family].kind == "seq2seq" else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(saved)
    if uses_peft(case.method):
        model = PeftModel.from_pretrained(cls.from_pretrained(base), saved)
    else:
        model = cls.from_pretrained(saved)
    model.eval()
    led = {"global_attention_mask"} if case.family == "led" else set()
    for prediction in read_predictions(predictions)[:3]:
        batch = tokenizer(PROMPT.format(text=prediction.input), return_tensors="pt")
        given = {"input_ids": batch.input_ids, "attention_mask": torch.ones_like(batch.input_ids)}
        for name in led:
            given[name] = torch.zeros_like(batch.input_ids)
            given[name][:, 0] = 1
        written = model.generate(**given, max_new_tokens=6, do_sample=False, num_beams=1, pad_token_id=0)[0]
        text = tokenizer.decode(written[given["input_ids"].shape[1] :] if not led and cls is AutoModelForCausalLM
                                else written, skip_special_tokens=True).strip()  # fmt: skip
        if text != prediction.prediction:
            return f"{prediction.id}: {text!r} in place of {prediction.prediction!r}"
    return ""


def job(arguments: tuple[Case, str]) -> Finding:
    """One case, in a process that torch was loaded in before."""
    case, data = arguments
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers_logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        try:
            return carry_out(case, Path(data), Path(folder))
        except Exception as error:
            traceback.print_exc()
            return Finding(case.name, f"fault: {type(error).__name__}", (str(error) or "?").splitlines()[0])


def table(findings: Sequence[Finding]) -> str:
    """The page of the documentation."""
    by_case = {f.case: f for f in findings}
    count = {name: sum(f.outcome == name for f in findings) for name in ("works", "refused")}
    lines = [
        "# Families and methods",
        "",
        f"Made by `python bench/methods.py --write docs/methods.md` with peft {peft_version} and transformers "
        f"{transformers_version}: tiny models of random weights, trained for 12 steps in fp32. *Works* means that the "
        "trial passed its checks and that plain transformers and peft write its texts from what it saved; everything "
        f"else is refused before anything is trained. Of {len(findings)} cases {count['works']} work and "
        f"{count['refused']} are refused.",
        "",
        "## Families of models",
        "",
        "| family | full fine-tuning | LoRA |",
        "| --- | --- | --- |",
    ]
    notes: list[str] = []

    def cell(finding: Finding | None) -> str:
        if finding is None:
            return "–"
        if finding.outcome == "works":
            return f"works ({finding.engine})"
        if finding.line not in notes:
            notes.append(finding.line)
        return f"{finding.outcome} [{notes.index(finding.line) + 1}]"

    for name in FAMILIES:
        if f"{name}/full" in by_case:
            lines.append(f"| {name} | {cell(by_case[f'{name}/full'])} | {cell(by_case.get(f'{name}/lora'))} |")
    lines += ["", "## Methods of peft", "", "| method | on a T5 | on a Llama |", "| --- | --- | --- |"]
    for method in dict.fromkeys(f.case.split("@")[0] for f in findings if "@" in f.case):
        lines.append(f"| {method} | {cell(by_case.get(method + '@T5'))} | {cell(by_case.get(method + '@Llama'))} |")
    lines += ["", "## What the user is told", ""]
    lines += [f"{n}. {' '.join(note.split())}" for n, note in enumerate(notes, start=1)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", default=[], help="cases whose name contains this")
    parser.add_argument("--write", type=Path, help="write the table here")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    chosen = [case for case in cases() if not arguments.only or any(part in case.name for part in arguments.only)]
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        data = Path(folder) / "data"
        data.mkdir()
        write_data(data)
        with multiprocessing.get_context("fork").Pool(arguments.jobs, maxtasksperchild=1) as pool:
            for finding in pool.imap(job, [(case, str(data)) for case in chosen]):
                findings.append(finding)
                print(f"{finding.case:<32} {finding.outcome:<8} {finding.engine} {finding.line}", flush=True)
    faults = [f for f in findings if f.outcome not in ("works", "refused") or "\n" in f.line]
    works = sum(f.outcome == "works" for f in findings)
    print(f"{len(findings)} cases: {works} work, {len(findings) - works - len(faults)} refused, {len(faults)} faults")
    if arguments.write:
        arguments.write.write_text(table(findings), encoding="utf-8")
    print(json.dumps([asdict(f) for f in faults], indent=1))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
