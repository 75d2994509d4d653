"""`tuneoff`: the commands, and what becomes of errors."""

from __future__ import annotations

import io
import sys

import typer

from tuneoff.cli.export import export
from tuneoff.cli.generate import generate
from tuneoff.cli.plan import plan
from tuneoff.cli.recipes import recipes
from tuneoff.cli.report import report
from tuneoff.cli.run import run
from tuneoff.cli.serve import serve
from tuneoff.cli.show import show
from tuneoff.errors import TuneoffError
from tuneoff.version import __version__
from tuneoff.visible import visible

MISTAKE = 2

app = typer.Typer(
    name="tuneoff",
    help="Should you fine-tune all of a model's weights, or only a few? Measured on your model, data and machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run)
app.command()(plan)
app.command()(show)
app.command()(report)
app.command()(generate)
app.command()(export)
app.command()(serve)
app.command()(recipes)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tuneoff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """The console script. A user's mistake is told in its own words, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no ÷ shows a question mark
            stream.reconfigure(errors="replace")
    try:
        app()
    except TuneoffError as error:
        print(f"tuneoff: {visible(str(error))}", file=sys.stderr)
        sys.exit(MISTAKE)
    except BrokenPipeError:  # `tuneoff show … | head`
        sys.stderr.close()
        sys.exit(1)
