"""What was learnt and what was forgotten, from planted losses and spectra."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.made import made_run
from tuneoff.folder import RunFolder
from tuneoff.records import Diagnosis, MatrixDiagnosis, RetainedMark, Tuning, UpdateLosses, VariantLosses
from tuneoff.report.claims import Claim, claims
from tuneoff.report.comparison import Comparison, compare
from tuneoff.report.diagnosis import diagnosis_lines, kind_rows, layers_text
from tuneoff.report.forgotten import forgotten_sentences
from tuneoff.report.learnt import advice
from tuneoff.report.page import write_report
from tuneoff.report.table import notes, table_cells, table_columns
from tuneoff.report.tuning import Optima
from tuneoff.report.verdict import verdict
from tuneoff.score.optimum import RateRatio

TEXTS, EXAMPLES = 40, 30
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(20, 60, TEXTS).astype(float)
BEFORE = TOKENS * RANDOM.normal(3.0, 0.5, TEXTS)
NOISE = RANDOM.normal(0, 0.02, (3, TEXTS))
TARGETS = RANDOM.integers(10, 40, EXAMPLES).astype(float)
FIRST = TARGETS * RANDOM.normal(2.5, 0.3, EXAMPLES)
GAIN = TARGETS * RANDOM.normal(0.8, 0.1, EXAMPLES)


def losses(arm: str, forgot: float, noise: int, cuts: dict[int, float] | None = None) -> UpdateLosses:
    """An arm that lost `forgot` nats per token on every text. `cuts` say what share of its gain a rank keeps."""
    rise = TOKENS * (forgot + NOISE[noise])

    def variant(kind: Any, value: float, learnt: float, lost: float) -> VariantLosses:
        return VariantLosses(
            kind=kind, value=value, validation=list(FIRST - learnt * GAIN), retained=list(BEFORE + lost * rise)
        )

    return UpdateLosses(
        arm=arm,
        seed=0,
        settings={},
        validation_tokens=[int(n) for n in TARGETS],
        texts=RetainedMark(
            source="builtin", sha256="0", kinds=["prose", "code"] * (TEXTS // 2), tokens=[int(n) for n in TOKENS],
            conditioned=["whole"] * TEXTS,
        ),
        variants=[
            *(variant("scale", scale, scale, scale) for scale in (0.0, 1.0, 0.5)),
            *(variant("cut", rank, share, share) for rank, share in (cuts or {}).items()),
        ],
        seconds=2.0,
    )  # fmt: skip


def matrix(
    kind: str, share: float, intruders: int, layer: str | None = "0", relative_norm: float = 0.01
) -> MatrixDiagnosis:
    return MatrixDiagnosis(
        name=f"{layer}.{kind}.weight", kind=kind, layer=layer, shape=(64, 64), relative_norm=relative_norm, share=share,
        stable_rank=3.0, entropy_rank=9.0, rank50=2, rank90=20, energy={1: 0.3, 4: 0.6, 16: 0.85, 64: 1.0},
        intruders=intruders,
    )  # fmt: skip


def test_kinds_of_other_names_follow_in_the_model_s_order() -> None:
    own = ["out", "in", "conv", "wpe", "router", "x_proj", "dt_proj", "fc1"]
    modules = [matrix(kind, 0.1, 0) for kind in ("down", *own, "q", *own)]
    rows = kind_rows(Diagnosis(arm="full", seed=0, modules=modules))
    assert [row[0] for row in rows] == ["q", "down", *own, "all"]


def diagnosed(
    path: Path, *, full: float = 0.041, lora: float = 0.012, intruders: int = 0, dialogues: int = 60
) -> RunFolder:
    folder = made_run(path, dialogues=dialogues)
    cuts = {1: 0.5, 4: 0.93, 16: 0.981, 64: 1.0}
    for arm, forgot, found in (("full", full, cuts), ("lora", lora, None)):
        losses(arm, forgot, int(arm == "lora"), found).write(folder.trial(arm, 0).losses)
        own = intruders if arm == "lora" else 0
        matrices = [matrix("gate", 0.6, own), matrix("q", 0.3, 0), matrix("embeddings", 0.1, 0)]
        Diagnosis(arm=arm, seed=0, modules=matrices, floor=1e-6).write(folder.trial(arm, 0).diagnosis)
    return folder


def comparison(folder: RunFolder) -> Comparison:
    return compare(folder)[0]


def test_an_arm_that_forgot_less_is_said_to(tmp_path: Path) -> None:
    found = comparison(diagnosed(tmp_path))
    assert found.forgotten is not None and found.forgotten.original == "original"
    (sentence,) = forgotten_sentences(found.forgotten, "full")
    own, other = (found.forgotten.change(arm).difference.value for arm in ("lora", "full"))
    assert (own, other) == pytest.approx((0.012, 0.041), abs=0.01)
    assert sentence == f"lora forgot less than full: {own:+.3f} against {other:+.3f} nats per token (p < 0.001)."
    assert sentence in verdict(found)
    assert set(found.forgotten.by_kind["full"]) == {"prose", "code"}
    tokens = found.forgotten.texts.tokens
    both = sum(tokens[0::2]) * found.forgotten.by_kind["full"]["prose"]
    both += sum(tokens[1::2]) * found.forgotten.by_kind["full"]["code"]
    assert both / sum(tokens) == pytest.approx(other)


@pytest.mark.parametrize(
    ("full", "lora", "said"),
    [
        (0.03, 0.03, "lora and full are not shown to differ in what they forgot"),
        (0.03, 0.09, "lora forgot more than full"),
        (-0.9, -0.3, "On average over other texts the loss of neither lora nor full has risen"),
    ],
)
def test_what_else_can_be_said(tmp_path: Path, full: float, lora: float, said: str) -> None:
    found = comparison(diagnosed(tmp_path, full=full, lora=lora)).forgotten
    assert found is not None
    (sentence,) = forgotten_sentences(found, "full")
    assert sentence.startswith(said)


def test_without_full_every_arm_is_set_against_the_original(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path, lora=0.5)
    folder.trial("full", 0).losses.unlink()
    found = comparison(folder).forgotten
    assert found is not None
    (sentence,) = forgotten_sentences(found, "full")
    assert sentence.startswith("lora forgot something of other texts: +0.50")
    losses("lora", 0.0, 1).write(folder.trial("lora", 0).losses)
    found = comparison(folder).forgotten
    assert found is not None
    assert forgotten_sentences(found, None)[0].startswith("lora is not shown to have forgotten anything")


def test_the_table_has_a_column_where_the_run_was_diagnosed(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path / "run")
    found = comparison(folder)
    columns = table_columns(found)
    assert columns[-1] == "forgot"
    rows = [table_cells(row, found) for row in found.arms]
    assert [len(row) for row in rows] == [len(columns)] * 3
    assert rows[0][-1] == "–" and rows[1][-1].startswith("+0.04") and rows[2][-1].startswith("+0.01")
    texts = f"40 texts that ship with tuneoff (the whole text; {int(TOKENS.sum()):,} tokens)"
    assert f"forgot: how many nats per token the loss has risen on {texts}" in notes(found)
    assert "forgot" not in table_columns(comparison(made_run(tmp_path / "other")))


def test_the_lowest_rank_that_keeps_the_gain_is_suggested(tmp_path: Path) -> None:
    (full, lora) = comparison(diagnosed(tmp_path)).learnt
    assert [(cut.rank, round(cut.kept.value, 6)) for cut in full.cuts if cut.kept] == [
        (1, 0.5), (4, 0.93), (16, 0.981), (64, 1.0),
    ]  # fmt: skip
    assert full.rank == 16 and full.kinds == ["gate"] and full.energy[16] == pytest.approx(0.85)
    first, second, third = advice(full)
    assert first == (
        "With every matrix of its update cut to rank 16, embeddings among them, full keeps 98.1 % [98.1, 98.1] of its "
        "gain in validation loss."
    )
    assert "--sweep r=16" in second and "A cut update is not a trained LoRA" in second
    assert third == "Of the change in linear layers half is in gate."
    assert advice(lora) == [] and lora.rank is None
    assert [point.scale for point in lora.scales] == [0.0, 0.5, 1.0]
    assert lora.scales[0].validation is not None and lora.scales[0].validation.value == 0
    assert lora.scales[0].retained.value == 0
    for one in (full, lora):
        half, whole = one.scales[1:]
        assert half.validation is not None and whole.validation is not None
        assert half.validation.value == pytest.approx(whole.validation.value / 2)


def test_layers_are_told_by_how_much_they_have_changed(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path)
    matrices = [
        matrix("q", 0.09, 0, "encoder 0", 0.3),
        matrix("v", 0.16, 0, "encoder 0", 0.4),  # ‖W‖² is 1 of both: together √(0.25 / 2)
        matrix("q", 0.01, 0, "decoder 0", 0.1),
        matrix("q", 0.49, 0, "encoder 1", 0.7),
        matrix("embeddings", 0.25, 0, None, 0.1),
    ]
    Diagnosis(arm="full", seed=0, modules=matrices, floor=1e-6).write(folder.trial("full", 0).diagnosis)
    full, lora = comparison(folder).learnt
    assert full.layers == pytest.approx({"encoder 0": 0.125**0.5, "decoder 0": 0.1, "encoder 1": 0.7})
    said = "‖Δ‖/‖W‖ by layer: most in encoder 1 (0.7), least in decoder 0 (0.1)"
    assert said in diagnosis_lines(Diagnosis.read(folder.trial("full", 0).diagnosis))
    assert list(lora.layers) == ["0"]
    assert layers_text([matrix("q", 1.0, 0)]) is None
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    drawing = page[page.index("<title>Change of each layer by training") :].partition("</svg>")[0]
    places = {}
    for layer, value in (("encoder 0", "0.354"), ("encoder 1", "0.7"), ("decoder 0", "0.1")):
        (found,) = re.findall(rf'cx="([\d.]+)" cy="([\d.]+)" r="5"><title>full, layer {layer}: {value}<', drawing)
        places[layer] = tuple(map(float, found))
    assert places["encoder 0"][0] < places["encoder 1"][0] < places["decoder 0"][0]  # the model's order
    assert places["encoder 1"][1] < places["encoder 0"][1] < places["decoder 0"][1]  # the larger, the higher
    assert re.findall(r'class="tick" x="[^"]+" y="[^"]+" text-anchor="middle">(\w+)<', drawing) == ["e0", "e1", "d0"]
    assert "lora, layer" not in drawing  # one layer makes no line


def test_an_update_of_no_low_rank_is_said_to_be(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path)
    losses("full", 0.0, 0, {1: 0.1, 64: 0.7}).write(folder.trial("full", 0).losses)
    full = comparison(folder).learnt[0]
    assert full.rank is None
    assert advice(full)[1] == "No rank up to 64 keeps 95 % of it."


def test_arms_that_began_with_other_models_are_not_compared(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path)
    path = folder.trial("lora", 0).losses
    own = UpdateLosses.read(path)
    first, *others = own.variants
    doubled = first.model_copy(update={"retained": [2 * nats for nats in first.retained]})
    own.model_copy(update={"variants": [doubled, *others]}).write(path)
    assert comparison(folder).forgotten is None


def test_each_arm_is_set_against_its_own_original(tmp_path: Path) -> None:
    """Another engine's losses of the same model may differ by a little: that is nothing that was forgotten."""
    folder = diagnosed(tmp_path)
    before = comparison(folder).forgotten
    path = folder.trial("lora", 0).losses
    own = UpdateLosses.read(path)
    moved = [
        v.model_copy(
            update={
                "retained": [1.004 * n for n in BEFORE]
                if v.value == 0
                else [n + 0.004 * b for n, b in zip(v.retained, BEFORE, strict=True)]
            }
        )
        for v in own.variants
        if v.kind == "scale"
    ]
    own.model_copy(update={"variants": moved}).write(path)
    after = comparison(folder).forgotten
    assert before is not None and after is not None
    for arm in ("full", "lora"):
        was, now = (found.change(arm).difference.value for found in (before, after))
        assert now == pytest.approx(was, abs=1e-9)


def outcomes(folder: RunFolder) -> dict[str, Claim]:
    found, arms = compare(folder)
    return {claim.said: claim for claim in claims(found, arms)}


def test_claims_are_held_not_held_or_not_measured(tmp_path: Path) -> None:
    told = outcomes(diagnosed(tmp_path, intruders=3, dialogues=400))
    assert {said: claim.outcome for said, claim in told.items()} == {
        "20 times faster": "not held",
        "5 times less memory": "not held",
        "99 % fewer gradients": "not held",
        "the update of full fine-tuning is of low rank": "held",
        "learns less and forgets less": "held",
        "LoRA has intruder dimensions, full fine-tuning has not": "held",
        "its best learning rate is about ten times full's": "not measured",
        "all linear layers beat attention alone at equal parameters": "not measured",
    }
    assert told["99 % fewer gradients"].measured == "98.6 % fewer"
    low = told["the update of full fine-tuning is of low rank"].measured
    assert low == "cut to rank 16 it keeps 98.1 % [98.1, 98.1] of its gain in validation loss, with 85 % of ‖Δ‖²"
    both = told["learns less and forgets less"].measured
    assert "nats per token (p < 0.001)" in both and both.startswith("-")
    intruders = told["LoRA has intruder dimensions, full fine-tuning has not"].measured
    assert intruders == "3 among the ten strongest directions of 3 matrices; full: 0"


def test_what_is_said_of_full_stands_once_and_pairs_of_lora_need_no_full(tmp_path: Path) -> None:
    found, arms = compare(diagnosed(tmp_path))
    lora = next(arm for arm in arms if arm.name == "lora")
    row = next(row for row in found.arms if row.arm == "lora")
    (run,) = found.runs
    both = run.model_copy(update={"arms": [*run.arms, "other"]})
    rows = [*found.arms, row.model_copy(update={"arm": "other"})]
    twice = found.model_copy(update={"arms": rows, "runs": [both]})
    made = claims(twice, [*arms, replace(lora, name="other")])
    assert [claim.arm for claim in made if "low rank" in claim.said] == ["full"]
    assert len([claim for claim in made if claim.said == "20 times faster"]) == 2
    alone = found.model_copy(update={"arms": [row for row in found.arms if row.method != "full"]})
    assert claims(alone, arms) == []  # there is one LoRA alone


def test_a_run_that_was_not_diagnosed_has_measured_none_of_it(tmp_path: Path) -> None:
    found = outcomes(made_run(tmp_path))
    told = {said: claim.outcome for said, claim in found.items() if not said.startswith(("20", "5", "99"))}
    assert len(told) == 5 and set(told.values()) == {"not measured"}


def test_an_arm_that_forgot_more_does_not_hold_the_claim(tmp_path: Path) -> None:
    told = outcomes(diagnosed(tmp_path, full=0.01, lora=0.09))
    assert told["learns less and forgets less"].outcome == "not held"  # it surely forgot more
    unsure = outcomes(diagnosed(tmp_path / "unsure", full=0.03, lora=0.03))
    assert unsure["learns less and forgets less"].outcome == "not shown"
    assert told["LoRA has intruder dimensions, full fine-tuning has not"].outcome == "not held"


def test_the_page_shows_all_of_it(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path)
    write_report(folder)
    page, text = folder.report.read_text(encoding="utf-8"), (folder.path / "report.md").read_text(encoding="utf-8")
    for told in ("What was learnt", "What was forgotten", "cut to rank 16, embeddings among them, full keeps 98.1 %"):
        assert told in page and told in text
    assert page.count("<title>Share of the update that a rank holds</title>") == 1
    assert "full cut to rank 4: 93.0 % [93.0, 93.0]" in page
    assert "lora × 0.5:" in page and "not held" in text
    assert "What was learnt" not in (write_page(made_run(tmp_path / "other")))


def write_page(folder: RunFolder) -> str:
    write_report(folder)
    return folder.report.read_text(encoding="utf-8")


def test_the_best_rates_are_set_in_ratio_where_both_were_searched_for(tmp_path: Path) -> None:
    found, arms = compare(diagnosed(tmp_path))

    def claim(**changes: Any) -> Claim:
        return next(c for c in claims(found.model_copy(update=changes), arms) if "learning rate" in c.said)

    tuning = [Tuning(arm=arm, tries=[], chosen=rate) for arm, rate in (("full", 1e-4), ("lora", 3e-3))]
    chosen = claim(tuning=tuning)
    assert (chosen.outcome, chosen.measured) == ("not held", "30 times, of the rates that were tried")
    ratio = RateRatio(arm="lora", baseline="full", value=11.0, low=6.0, high=None)
    located = claim(tuning=tuning, optima=Optima(ratios=[ratio]))
    assert (located.outcome, located.measured) == ("held", "11 times [6, …]")
    assert claim().outcome == "not measured"
