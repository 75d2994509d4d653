"""`tuneoff data`: examples as the model sees them, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tuneoff.data.preview import Preview, SplitPreview
    from tuneoff.records import SplitStatistics

BAR = 40  # characters of a histogram's longest bar


def data(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that ships.")] = "demo",
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(help="Which split, by its name in the recipe.", show_default="train"),
    ] = None,
    n: Annotated[int, typer.Option(min=1, help="How many examples, spread evenly over the split.")] = 3,
    set: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Override a key, e.g. data.max_source_length=256.")
    ] = None,
) -> None:
    """Show examples as the model will see them: their tokens, which of them the loss sees, what was cut.

    Then the lengths of all, what was counted, and what is odd about the data.
    """
    from tuneoff.cli.progress import telling
    from tuneoff.cli.terminal import Terminal
    from tuneoff.data.early import require_early
    from tuneoff.data.inputs import read_inputs
    from tuneoff.data.preview import preview
    from tuneoff.errors import RecipeError
    from tuneoff.recipe import load_recipe

    loaded = load_recipe(recipe, set or [])
    try:
        require_early(loaded.recipe)
        with telling() as tell:
            inputs = read_inputs(loaded.recipe, None, tell)
            split = split or ("train" if "train" in inputs.tokens else loaded.recipe.evaluation.split)
            shown = preview(loaded.recipe, inputs, split, n)
    except RecipeError as error:
        raise loaded.locate(error) from None
    console = Terminal()
    for example in shown.examples:
        _print_example(example, shown, console)
    _print_lengths("input", shown.input_lengths, console)
    if shown.target_lengths:
        _print_lengths("target", shown.target_lengths, console)
    console.print(_counts(inputs.data[split]))
    for warning in inputs.warnings:
        console.print(f"warning: {warning}", markup=False)


def _print_example(example: Preview, shown: SplitPreview, console: Console) -> None:
    from rich.text import Text

    console.print(Text(f"── {shown.split} {example.id}", style="bold"))
    for segment in example.segments:
        told = "the loss sees" if segment.in_loss else "the loss does not see"
        count = len(segment.tokens)
        console.print(
            Text(f"{count} token{'s' if count != 1 else ''} that {told}:", style="bold" if segment.in_loss else "dim")
        )
        console.print(_tokens(segment.tokens, segment.in_loss), soft_wrap=False)
    if example.cut_tokens:
        console.print(f"{example.cut_tokens} tokens of the input were cut")
    if not shown.trained_on:
        for reference in example.references:
            console.print(Text(f"reference: {reference}", style="green"))
    console.print()


def _tokens(tokens: list[str], in_loss: bool) -> Text:
    """Tokens with a bar between them; line breaks stand as ⏎ beside the break itself."""
    from rich.text import Text

    text = Text()
    for place, token in enumerate(tokens):
        if place:
            text.append("|", style="dim")
        text.append(token.replace("\n", "⏎\n"), style="bold green" if in_loss else "")
    return text


def _print_lengths(what: str, lengths: list[int], console: Console) -> None:
    from tuneoff.data.preview import histogram

    ordered = sorted(lengths)
    console.print(
        f"{what} tokens: {ordered[0]} to {ordered[-1]}, half of them at most {ordered[(len(ordered) - 1) // 2]}"
    )
    bins = histogram(lengths)
    most = max(one.count for one in bins)
    width = len(str(bins[-1].high))
    for one in bins:
        bar = "█" * round(BAR * one.count / most) or ("▏" if one.count else "")
        console.print(f"  {one.low:>{width}}–{one.high:<{width}}  {bar} {one.count:,}", markup=False)
    console.print()


def _counts(statistics: SplitStatistics) -> str:
    from tuneoff.cli.progress import told_examples

    parts = [f"{statistics.rows:,} rows", told_examples(statistics), f"{statistics.references:,} references"]
    parts += [f"{statistics.groups:,} groups"] if statistics.groups is not None else []
    for name in ("skipped_rows", "duplicate_rows", "truncated_inputs", "truncated_targets"):
        count = getattr(statistics, name)
        parts += [f"{count:,} {name.replace('_', ' ').replace('truncated', 'cut')}"] if count else []
    layout = f"conversations as {statistics.layout}: " if statistics.layout is not None else ""
    return layout + ", ".join(parts)
