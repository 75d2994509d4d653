"""`tuneoff plan`: what a recipe will take, before anything is downloaded or trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tuneoff.recipe import Recipe


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships.")] = "demo",
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Override a key, e.g. training.micro_batch=4.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="MEMORY", help="Also check against this much memory, e.g. 16GB.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="KEY=VALUES", help="Plan each value of a setting, e.g. r=4,8,16.")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Time a few real steps first, for narrower predictions now and later.")
    ] = False,
    power: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="How many test examples a difference or margin needs, by the spread of a finished RUN or `typical`.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Predict memory and time of every arm from the model's config and the data.

    With --power, tell instead what the test examples can show.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.cli.terminal import Terminal
    from tuneoff.data.early import require_early
    from tuneoff.errors import RecipeError
    from tuneoff.planner.fit import parse_device
    from tuneoff.recipe import load_recipe
    from tuneoff.report.plan import print_plan

    loaded = load_recipe(recipe, set or [])
    for memory in device or []:
        parse_device(memory)
    if power is not None:
        _print_power(loaded.recipe, power, json)
        return
    try:
        require_early(loaded.recipe)
        from tuneoff.planner.plan import plan_recipe  # loads torch, which takes seconds

        with telling() as tell:
            made = plan_recipe(loaded.recipe, tell, devices=device or [], sweep=sweep, calibrate=calibrate)
    except RecipeError as error:
        raise loaded.locate(error) from None
    if json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        print_plan(made, Terminal())


def _print_power(recipe: Recipe, like: str, json: bool) -> None:
    """What the recipe's test examples can show."""
    from tuneoff.cli.terminal import Terminal
    from tuneoff.data.splits import count_scored
    from tuneoff.report.power import power_of, print_power

    found = power_of(recipe, like, count_scored(recipe))
    if json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        print_power(found, recipe, Terminal())
