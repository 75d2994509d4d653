"""YAML and `--set` → a typed recipe. All problems are told at once, each with its line and the nearest key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tuneoff.errors import DamagedFileError, Problem, RecipeError, first_line, nearest
from tuneoff.folder import RECIPE_MARK, RunFolder, write_whole
from tuneoff.recipe.arm import RANK
from tuneoff.recipe.places import with_absolute_paths
from tuneoff.recipe.schema import Recipe
from tuneoff.recipe.shipped import shipped_recipes
from tuneoff.recipe.sweep import SweptArm, expand_sweeps
from tuneoff.records import Resolved
from tuneoff.records.base import first_problem

# What PyYAML raises for text that is no YAML; the last four for a value that is not what its tag or form says (a 99th
# day, `!!bool x`, `!!timestamp x`), and for brackets in thousands of brackets.
NOT_YAML = (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError)


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, its name, and where each key stands, so that a later check can point at the line.

    `swept` has the arms that a sweep made: their keys stand in the arm that has the sweep.
    """

    recipe: Recipe
    name: str
    source: str
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    swept: Mapping[str, SweptArm] = field(default_factory=dict)

    def locate(self, error: RecipeError) -> RecipeError:
        """The same error with `file:line` before each problem that the file is to blame for."""
        return _located(error.problems, self.source, self.lines, self.swept)


def load_recipe(reference: str, overrides: Iterable[str] = ()) -> LoadedRecipe:
    """Read a recipe file, or one that ships, by name; apply `a.b=c` overrides; check it; make its paths absolute.

    Raises RecipeError with every problem found.
    """
    path = Path(reference)
    shipped = shipped_recipes()
    if not path.is_file():
        if reference not in shipped:
            what = f"{reference!r} is no file" if path.exists() else f"no recipe file {reference!r}"
            message = f"{what}, and no recipe of that name ships with tuneoff: {nearest(reference, shipped)}"
            raise RecipeError([Problem((), message)])
        loaded = placed(read_recipe(shipped[reference], overrides), Path.cwd(), overrides)
    else:
        loaded = placed(read_recipe(path, overrides), path.absolute().parent, overrides)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", loaded.name).lstrip(".") or "run"
    return replace(loaded, name=name)


def placed(loaded: LoadedRecipe, directory: Path, overrides: Iterable[str] = ()) -> LoadedRecipe:
    """`loaded` with absolute paths: those of its file start from `directory`, those of `overrides` from here.

    Raises RecipeError as `with_absolute_paths` does.
    """
    overridden = {tuple(override.partition("=")[0].strip().split(".")) for override in overrides}
    try:
        return replace(loaded, recipe=with_absolute_paths(loaded.recipe, directory, overridden))
    except RecipeError as error:
        raise loaded.locate(error) from None


def read_recipe(path: Path, overrides: Iterable[str] = ()) -> LoadedRecipe:
    """The recipe in one file. Raises RecipeError."""
    lines: dict[tuple[str, ...], int] = {}
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _note_lines(node, (), lines)
        values = yaml.safe_load(text)
    except OSError as error:
        raise RecipeError([Problem((), f"{path} cannot be read ({error.strerror})")]) from None
    except UnicodeDecodeError as error:
        raise RecipeError([Problem((), f"{path.name} is not UTF-8 (byte {error.start})")]) from None
    except NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}:{mark.line + 1}" if mark else path.name
        raise RecipeError(
            [Problem((), f"{where}: not YAML: {getattr(error, 'problem', None) or first_line(error)}")]
        ) from None
    if not isinstance(values, dict):
        raise RecipeError([Problem((), f"{path.name}: a recipe is a mapping with model, data, prompt and arms")])
    return make_recipe(values, overrides, path.stem, path.name, lines)


def make_recipe(
    values: dict[str, Any],
    overrides: Iterable[str] = (),
    name: str = "recipe",
    source: str = "the recipe",
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> LoadedRecipe:
    """The recipe of values as YAML has them (which overrides change). Raises RecipeError, by `lines` where given."""
    for override in overrides:
        _override(values, override)
    expanded, lines = expand_sweeps(values), lines or {}
    try:
        if expanded.problems:
            raise _located(expanded.problems, source, lines, {})
        return LoadedRecipe(Recipe.model_validate(expanded.values), name, source, lines, expanded.made)
    except ValidationError as error:
        raise _located(_problems(error), source, lines, expanded.made) from None


def write_recipe(recipe: Recipe, path: Path) -> None:
    """The recipe with every default filled in, as YAML."""
    values = recipe.model_dump(mode="json")
    write_whole(path, RECIPE_MARK + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))


def resolved_recipe(resolved: Resolved) -> Recipe:
    """The recipe of a resolved one, typed: as the user gave it, with local paths absolute and ranks solved."""
    return with_ranks(Recipe.model_validate(resolved.recipe), resolved.ranks)


def with_ranks(recipe: Recipe, ranks: Mapping[str, int]) -> Recipe:
    """`recipe` with the ranks that were solved for arms with `params`."""
    solved = {
        name: recipe.arms[name].model_copy(update={RANK: rank}) for name, rank in ranks.items() if name in recipe.arms
    }
    return recipe.model_copy(update={"arms": {**recipe.arms, **solved}})


def recipe_of(folder: RunFolder) -> Recipe:
    """The recipe of a run: what it was resolved to, or where that is not there (yet), its recipe.yaml.

    Raises RunFolderError where the folder is no run's, DamagedFileError where the file cannot be read.
    """
    folder.require()
    if folder.resolved.is_file():
        try:
            return resolved_recipe(Resolved.read(folder.resolved))
        except ValidationError as error:
            raise DamagedFileError(f"{folder.resolved} is damaged (its recipe: {first_problem(error)})") from None
    try:
        return read_recipe(folder.recipe).recipe
    except RecipeError as error:
        raise DamagedFileError(f"{folder.recipe} cannot be read ({first_line(error)})") from None


def _override(values: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise RecipeError([Problem((), f"--set takes key.key=value, got {override!r}")])
    try:
        value = yaml.safe_load(text) if text.strip() else None
    except NOT_YAML:
        raise RecipeError([Problem(tuple(keys), f"--set takes a YAML value, got {text!r}")]) from None
    place = values
    for depth, key in enumerate(keys[:-1]):
        inner = place.setdefault(key, {})
        if key == "model" and depth == 0 and isinstance(inner, str):  # `model: NAME` is short for {name: NAME}
            inner = place[key] = {"name": inner}
        if not isinstance(inner, dict):
            where = ".".join(keys[: depth + 1])
            raise RecipeError([Problem(tuple(keys), f"--set: {where} is {inner!r} and has no keys of its own")])
        place = inner
    place[keys[-1]] = value


def _note_lines(node: yaml.Node | None, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, str(key.value))
            line = key.start_mark.line + 1
            if place in lines:
                raise RecipeError([Problem(place, f"given twice, on lines {lines[place]} and {line}")])
            lines[place] = line
            _note_lines(value, place, lines)


def _located(
    problems: Iterable[Problem],
    source: str,
    lines: Mapping[tuple[str, ...], int],
    swept: Mapping[str, SweptArm],
) -> RecipeError:
    """The problems with `file:line` before them. What all arms of a sweep have in common is told once."""
    placed: dict[tuple[tuple[str, ...], str], Problem] = {}
    for problem in problems:
        path = shown = problem.path
        if path[:1] == ("arms",) and len(path) > 1 and path[1] in swept:
            path = swept[path[1]].path(path)
            shown = path if len(path) > 2 else shown  # what concerns an arm as a whole is told by its own name
        of = path or _named(problem.message)
        line = next((lines[of[:n]] for n in range(len(of), 0, -1) if of[:n] in lines), None)
        place = f"{source}:{line}" if line else source
        told = Problem((), f"{place}: {Problem(shown, problem.message)}")
        placed.setdefault((path, problem.message), told)
    return RecipeError(placed.values())


def _named(message: str) -> tuple[str, ...]:
    """The key that a message on the recipe as a whole begins with, such as `training.keep: best needs …`."""
    found = re.match(r"(?:the )?`?([A-Za-z_]\w*(?:\.[\w-]+)*)", message)
    return tuple(found[1].split(".")) if found is not None else ()


def _problems(error: ValidationError) -> list[Problem]:
    problems: dict[tuple[str, ...], Problem] = {}
    for entry in error.errors(include_url=False):
        path = _readable(entry["loc"])
        if entry["type"] == "extra_forbidden":
            message = _no_such_key(path[-1], entry["loc"])
        elif entry["type"] == "missing":
            message = "is missing"
        else:
            message = entry["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
            if not isinstance(entry["input"], dict | list):
                message += f", got {entry['input']!r}"
        problems.setdefault(path, Problem(path, message))
    return list(problems.values())


def _readable(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Pydantic's location without the names of a union's branches and of validators."""
    return tuple(
        str(part) for part in loc if isinstance(part, int) or (re.fullmatch(r"[\w-]+", str(part)) and not _branch(part))
    )


def _branch(part: int | str) -> bool:
    return part in ("str", "dict", "TokenizerSpec", "KeepSpec", "constrained-str", "constrained-float")


def _no_such_key(key: str, loc: tuple[int | str, ...]) -> str:
    """What is said of an unknown key: where the recipe has one of that name, or else the nearest beside it."""
    places = [place for place in _places(Recipe) if place.rpartition(".")[2] == key]
    if places:
        return f"no such key here; there is {' and '.join(places)}"
    return f"no such key; {nearest(key, _keys_beside(loc))}"


def _places(spec: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every key of a part of the recipe and of the parts in it: `training.epochs`, `arms.NAME.tune.halving`."""
    for name, field_ in spec.model_fields.items():
        yield f"{above}{name}"
        named = "NAME." if get_origin(field_.annotation) is dict else ""
        for part in _parts(field_.annotation):
            yield from _places(part, f"{above}{name}.{named}")


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the recipe has at the place of the unknown one."""
    spec: type[BaseModel] = Recipe
    for part in loc[:-1]:
        if part in spec.model_fields:
            spec = next(_parts(spec.model_fields[str(part)].annotation), spec)
    return list(spec.model_fields)


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    """The parts of a recipe that a field's type names."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            yield candidate
