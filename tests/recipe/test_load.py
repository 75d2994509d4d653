from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import recipe_values
from tuneoff.errors import RecipeError
from tuneoff.recipe import (
    Words,
    load_recipe,
    read_recipe,
    resolved_recipe,
    shipped_recipes,
    trials,
    write_recipe,
)
from tuneoff.recipe.changes import differences_from_resolved, with_free_settings
from tuneoff.records import Resolved


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def valid(tmp_path: Path) -> str:
    return write(tmp_path, yaml.safe_dump(recipe_values(tmp_path), sort_keys=False))


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    assert {"original", "full", "lora"} <= load_recipe(name).recipe.arms.keys()


def test_the_first_case_has_its_settings_to_the_letter() -> None:
    recipe = load_recipe("dialogsum-flan-t5-base").recipe
    assert (recipe.model.name, recipe.data.source) == ("google/flan-t5-base", "knkarthick/dialogsum")
    assert recipe.prompt == "Summarize the following conversation.\n{dialogue}\nSummary:"
    assert recipe.arms["full"].learning_rate == 5e-5
    assert recipe.arms["lora"].learning_rate == 1e-3
    assert recipe.arms["lora"].settings == {
        "r": 32, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": ["q", "v"],
    }  # fmt: skip


def test_all_problems_are_told_at_once_with_line_and_nearest_key(tmp_path: Path) -> None:
    text = """model: some/model
data: {source: x, inptu: dialogue, target: summary}
prompt: "{dialogue}"
arms:
  full: {method: full}
training:
  epoch: 3
  precision: fp64
"""
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, text))
    message = str(caught.value)
    assert "mine.yaml:2: data.inptu: no such key; did you mean 'input'?" in message
    assert "mine.yaml:5: arms.full: method 'full' needs a `learning_rate`" in message
    assert "mine.yaml:7: training.epoch: no such key; did you mean 'epochs'?" in message
    assert "mine.yaml:8: training.precision: input should be 'bf16' or 'fp32', got 'fp64'" in message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_beams=4", "num_beams: no such key here; there is evaluation.search.num_beams"),
        ("training.num_beams=4", "training.num_beams: no such key here; there is evaluation.search.num_beams"),
        ("evaluation.length_penalty=2", "there is evaluation.search.length_penalty"),
        ("learning_rate=1", "there is arms.NAME.learning_rate and arms.NAME.tune.learning_rate"),
        ("data.halving=true", "there is arms.NAME.tune.halving"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_where_it_belongs(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"{re.escape(message)}$"):
        load_recipe(valid(tmp_path), [setting])


def test_beams_beside_search_are_told_where_they_belong(tmp_path: Path) -> None:
    """Alone they are what older recipes have (`test_keys_that_an_older_tuneoff_did_not_know_are_no_difference`)."""
    message = "evaluation.num_beams: no such key here; there is evaluation.search.num_beams"
    with pytest.raises(RecipeError, match=message):
        load_recipe(valid(tmp_path), ["evaluation.search.min_new_tokens=2", "evaluation.num_beams=4"])


FLOATS = [
    "arms.full.learning_rate", "training.epochs", "training.warmup_ratio", "training.weight_decay",
    "training.max_grad_norm", "training.checkpoint_minutes", "evaluation.search.length_penalty", "evaluation.keep",
    "evaluation.keep.points", "arms.lora.lora_alpha", "model.config.dropout_rate",
]  # fmt: skip


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", FLOATS)
def test_every_number_is_finite(tmp_path: Path, key: str, number: str) -> None:
    values = recipe_values(tmp_path)
    values["evaluation"] = {"search": {"num_beams": 2}, "keep": {"points": 1}} if "points" in key else {}
    with pytest.raises(RecipeError, match=rf"{key}: input should be a finite number, got {number.replace('.', '')}"):
        load_recipe(write(tmp_path, yaml.safe_dump(values)), [f"{key}={number}"])


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_numbers_in_lists_and_mappings_are_finite(tmp_path: Path, number: str) -> None:
    for setting, told in (
        (f"diagnose={{scales: [{number}]}}", "diagnose.scales.0: input should be a finite number"),
        (f"arms.full.tune={{learning_rate: [1, {number}]}}", "tune.learning_rate.1: input should be a finite number"),
        (f"arms.lora.alpha_pattern={{q: [1, {number}]}}", "alpha_pattern: every number in it should be finite"),
        ("arms.lora.params=1e400", "params: is more parameters than any model has, got '1e400'"),
        (f"arms.lora.params={'9' * 400}M", "params: is more parameters than any model has"),
    ):
        with pytest.raises(RecipeError, match=re.escape(told)):
            load_recipe(valid(tmp_path), [setting])


def test_a_length_penalty_is_an_exponent_with_bounds(tmp_path: Path) -> None:
    for penalty, told in ((11, "less than or equal to 10, got 11"), (-11, "greater than or equal to -10, got -11")):
        with pytest.raises(RecipeError, match=f"length_penalty: input should be {told}"):
            load_recipe(
                valid(tmp_path), ["evaluation.search.num_beams=2", f"evaluation.search.length_penalty={penalty}"]
            )


def test_yaml_s_on_and_off_are_no_booleans(tmp_path: Path) -> None:
    text = "model: m\ndata: {source: x}\nchat: off\narms: {a: {method: none}}\n"
    assert load_recipe(write(tmp_path, text)).recipe.chat == "off"
    assert load_recipe(write(tmp_path, text), ["chat=on"]).recipe.chat == "on"


TUNED = {"x": {"method": "full", "tune": {"learning_rate": [1, 2]}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "{dialog}"}, "the prompt must contain the input column {dialogue}, and has {dialog}"),
        ({"data": {"source": "x", "input": "dialogue"}}, "give both `input` and `target`"),
        ({"data": {"source": "x", "input": "a", "target": "b", "messages": "m"}}, "not both"),
        ({"data": {"source": "x", "input": "dialogue", "target": "b", "train_on": "all"}}, "`train_on` is for conv"),
        ({"data": {"source": "x", "input": "dialogue", "target": "b", "truncate": "c"}}, "no column of the prompt"),
        ({"data": {"source": "x"}}, "conversations are asked as they are, without a `prompt`"),
        ({"data": {"source": "x", "messages": "m"}}, "conversations are asked as they are, without a `prompt`"),
        ({"prompt": None}, "`prompt` is missing"),
        ({"prompt": "{dialogue!r}"}, "a column is written {name}, without ':' or '!', got {dialogue…}"),
        ({"prompt": "{dialogue} {}"}, "a column is written {name}, got {}"),
        ({"prompt": "{dialogue"}, "write {{ and }}"),
        ({"arms": {"x": {"method": "full", "learning_rate": 1.0, "tune": {"learning_rate": [1, 2]}}}}, "not both"),
        ({"arms": {"x": {"method": "none", "tune": {"learning_rate": [1, 2]}}}}, "takes no settings"),
        ({"arms": {"x": {"method": "full", "tune": {"learning_rate": [1]}}}}, "at least 2"),
        ({"arms": TUNED, "evaluation": {"split": "validation"}}, "would choose on the split that is scored"),
        (
            {
                "arms": TUNED,
                "data": {"source": "x", "input": "dialogue", "target": "b", "splits": {"validation": None}},
            },
            "arms.x.tune needs a validation split",
        ),
        ({"seeds": [1, 1]}, "every seed once"),
        ({"evaluation": {"search": {"length_penalty": 2.0}}}, "weighs beams against each other: give `num_beams`"),
        ({"evaluation": {"max_new_tokens": 8, "search": {"min_new_tokens": 9}}}, "`max_new_tokens` 8: no text can"),
        ({"arms": {"a/b": {"method": "none"}}}, "arms"),
        ({"arms": {}}, "arms"),
        ({"arms": {"x": {"method": "none", "r": 8}}}, "takes no settings"),
        ({"model": {"name": "a/b", "config": {"model_type": "t5"}}}, "either `name`"),
        ({"model": {"gguf": "a.gguf", "config": {"model_type": "t5"}, "tokenizer": "x"}}, "asks for random ones"),
        ({"model": {"name": "a/b", "gguf": "/a.gguf"}}, "with `name`, `gguf` is a file in it"),
        ({"model": {"config": {"d_model": 8}, "tokenizer": "x"}}, "needs `model_type`"),
        ({"model": {"config": {"model_type": "t5"}}}, "needs `tokenizer`"),
        ({"data": {"source": {"train": "a.jsonl"}, "input": "dialogue", "target": "b"}}, "needs `train` and `test`"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    text = yaml.safe_dump({**recipe_values(tmp_path), **change}, sort_keys=False)
    with pytest.raises(RecipeError, match=r".") as caught:
        load_recipe(write(tmp_path, text))
    assert message in str(caught.value)


def test_overrides_reach_any_key(tmp_path: Path) -> None:
    path = valid(tmp_path)
    overrides = ["training.epochs=3", "arms.lora.r=16", "seeds=[0, 1]", "data.limit.train=5", "arms.lora.use_dora=true"]
    recipe = load_recipe(path, overrides).recipe
    assert (recipe.training.epochs, recipe.seeds, recipe.data.limit.train) == (3.0, [0, 1], 5)
    assert recipe.arms["lora"].settings["r"] == 16
    assert recipe.arms["lora"].settings["use_dora"] is True


@pytest.mark.parametrize("given", ["dir/a.gguf", {"gguf": "dir/a.gguf"}, {"name": "dir/a.gguf"}])
def test_the_path_of_a_gguf_file_is_a_file_in_its_folder(tmp_path: Path, given: object) -> None:
    text = yaml.safe_dump({**recipe_values(tmp_path), "model": given})
    model = load_recipe(write(tmp_path, text)).recipe.model
    assert (model.name, model.gguf) == ("dir", "a.gguf")


def test_an_override_reaches_into_a_model_given_by_name() -> None:
    model = load_recipe("dialogsum-flan-t5-base", ["model.revision=abc"]).recipe.model
    assert (model.name, model.revision) == ("google/flan-t5-base", "abc")


@pytest.mark.parametrize(
    "override", ["training.epochs", "=3", "training..epochs=1", "prompt.x=1", "training.epochs=[1", "seeds=2026-99-99"]
)
def test_a_malformed_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(valid(tmp_path), [override])


def test_an_unknown_name_suggests_one_that_ships() -> None:
    with pytest.raises(RecipeError, match="did you mean 'dialogsum-flan-t5-base'"):
        load_recipe("dialogsum-flan-t5-bse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"arms: [", "mine.yaml:1: not YAML: expected the node content, but found '<stream end>'"),
        (b"arms: {a: 1\nseeds: [0]", "mine.yaml:2: not YAML: expected ',' or '}', but got ':'"),
        (b"arms: 'x\n", "mine.yaml:2: not YAML: found unexpected end of stream"),
        (b"seeds: 2026-99-99\n", "mine.yaml: not YAML: month must be in 1..12"),
        (b"seeds: !!bool x\n", "mine.yaml: not YAML: 'x'"),
        (b"seeds: !!timestamp x\n", "mine.yaml: not YAML: "),
        (b"[" * 1_000, "mine.yaml: not YAML: maximum recursion depth exceeded"),
        (b"arms: \x00\n", "mine.yaml: not YAML: unacceptable character #x0000"),
        (b"- a\n- b\n", "a recipe is a mapping"),
        (b"model: \xff\n", "not UTF-8"),
        (b"seeds: [0]\nseeds: [1]\n", "given twice, on lines 1 and 2"),
        (b"", "a recipe is a mapping"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"."):
        read_recipe(path)
    try:
        read_recipe(path)
    except RecipeError as error:
        assert message in str(error) and "\n" not in str(error)


def test_a_written_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = load_recipe(valid(tmp_path)).recipe
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml").recipe == recipe


def test_differences_name_what_changed(tmp_path: Path) -> None:
    old = load_recipe(valid(tmp_path)).recipe
    new = load_recipe(valid(tmp_path), ["training.epochs=3", "arms.lora.use_dora=true"]).recipe
    resolved = Resolved.model_construct(recipe=old.model_dump(mode="json"), directory=str(tmp_path))
    assert differences_from_resolved(resolved, old) == []
    assert differences_from_resolved(resolved, new) == [
        "training.epochs: 2.0 → 3.0",
        "arms.lora.use_dora: (not there) → True",
    ]


def test_keys_that_an_older_tuneoff_did_not_know_are_no_difference(tmp_path: Path) -> None:
    recipe = load_recipe(valid(tmp_path)).recipe
    older = recipe.model_dump(mode="json")
    del older["evaluation"]["metrics"], older["words"], older["data"]["allow_overlap"]
    del older["evaluation"]["search"]
    older["evaluation"]["num_beams"] = 1
    resolved = Resolved.model_construct(recipe=older, directory=str(tmp_path))
    assert differences_from_resolved(resolved, recipe) == []
    other = load_recipe(valid(tmp_path), ["evaluation.metrics=[exact_match]"]).recipe
    assert differences_from_resolved(resolved, other) == [
        "evaluation.metrics: ['rouge1', 'rouge2', 'rougeL'] → ['exact_match']"
    ]


def test_what_is_diagnosed_may_change_and_no_result_hangs_on_it(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    old = load_recipe(valid(tmp_path), ["diagnose={ranks: [2]}"]).recipe
    new = load_recipe(valid(tmp_path), ["diagnose=off", f"evaluation.retain={own}"]).recipe
    resolved = Resolved.model_construct(
        recipe=old.model_dump(mode="json"), directory=str(tmp_path), model_revision=None, model_sha256="1",
        tokenizer_revision=None, tokenizer_sha256="2", data={}, ranks={},
    )  # fmt: skip
    assert differences_from_resolved(resolved, new) == []
    changed = with_free_settings(resolved, new)
    assert changed.sha256 == resolved.sha256
    recipe = resolved_recipe(changed)
    assert recipe.diagnose is None and recipe.evaluation.retain == str(own)
    again = new.model_copy(update={"evaluation": new.evaluation.model_copy(update={"retain": "own.jsonl"})})
    assert with_free_settings(changed, again) == changed  # the same file, from the run's own directory


@pytest.mark.parametrize(
    ("value", "ranks"), [("off", None), ("false", None), ("on", [1, 4, 16, 64]), ("{ranks: [2]}", [2]), ("null", None)]
)
def test_a_diagnosis_is_off_on_or_as_its_keys_say(tmp_path: Path, value: str, ranks: list[int] | None) -> None:
    found = load_recipe(valid(tmp_path), [f"diagnose={value}"]).recipe.diagnose
    assert (found.ranks if found is not None else None) == ranks


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("diagnose={rank: [1]}", "diagnose.rank: no such key; did you mean 'ranks'"),
        ("diagnose={ranks: [0]}", "diagnose.ranks.0: input should be greater than or equal to 1, got 0"),
        ("diagnose=maybe", "diagnose: "),
        ("training.early_stopping_patience=2", "set `keep: best`, too"),
        ("training.keep=first", "training.keep: "),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(valid(tmp_path), [setting])
    assert message in str(raised.value) and len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.keep=best", "data.splits={validation: null}"], "training.keep: best needs a validation split"),
        (["training.keep=best", "evaluation.split=validation"], "would choose on the split that is scored"),
        (["training.eval_steps=5", "data.splits={validation: null}"], "training.eval_steps needs a validation split"),
    ],
)
def test_the_best_weights_need_a_validation_split_that_is_not_scored(
    tmp_path: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(valid(tmp_path), settings)
    assert message in str(raised.value) and len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("dialogue", "dialogues"), ("summary", "summaries"), ("essay", "essays"), ("box", "boxes"), ("class", "classes")],
)
def test_plurals_of_words(noun: str, plural: str) -> None:
    assert Words(example=noun, output=noun).examples == Words(output=noun).outputs == plural


def test_an_arm_that_trains_nothing_has_one_trial(tmp_path: Path) -> None:
    recipe = load_recipe(valid(tmp_path), ["seeds=[3, 4]"]).recipe
    assert [str(t) for t in trials(recipe)] == [
        "original/seed-3", "full/seed-3", "lora/seed-3", "full/seed-4", "lora/seed-4",
    ]  # fmt: skip
