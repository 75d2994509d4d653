"""`tuneoff`: the commands, and what becomes of errors."""

from __future__ import annotations

import io
import os
import sys

import typer

from tuneoff.cli.data import data
from tuneoff.cli.diagnose import diagnose
from tuneoff.cli.export import export
from tuneoff.cli.fetch import fetch
from tuneoff.cli.generate import generate
from tuneoff.cli.help import help
from tuneoff.cli.init import init
from tuneoff.cli.plan import plan
from tuneoff.cli.recipes import recipes
from tuneoff.cli.report import report
from tuneoff.cli.run import run
from tuneoff.cli.score import score
from tuneoff.cli.serve import serve
from tuneoff.cli.show import show
from tuneoff.cli.watch import watch
from tuneoff.errors import TuneoffError, disk_trouble
from tuneoff.version import __version__
from tuneoff.visible import visible

FAILED, MISTAKE = 1, 2

app = typer.Typer(
    name="tuneoff",
    help="Should you fine-tune all of a model's weights, or only a few? Measured on your model, data and machine.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(init)
app.command()(run)
app.command()(watch)
app.command()(plan)
app.command()(data)
app.command()(show)
app.command()(report)
app.command()(score)
app.command()(diagnose)
app.command()(generate)
app.command()(export)
app.command()(serve)
app.command()(recipes)
app.command()(fetch)
app.command()(help)


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
    _use_utf8()
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except TuneoffError as error:
        _tell(visible(str(error)))
        sys.exit(MISTAKE)
    except BrokenPipeError:  # `tuneoff show … | head`
        os._exit(FAILED)
    except OSError as error:
        reason = disk_trouble(error)
        if reason is None:
            raise
        _tell(f"cannot write{f' {error.filename}' if error.filename else ''} ({reason})")
        os._exit(FAILED)  # what is left in the buffer of a full standard output would be told as a bug


def _tell(text: str) -> None:
    """On standard error, where it is open: standard output is for results."""
    if sys.stderr is not None:
        print(f"tuneoff: {text}", file=sys.stderr, flush=True)


def _use_utf8() -> None:
    """Read paths and write texts as UTF-8, whatever the locale; a terminal is written to in what it understands.

    Where Python took the file system's names to be something else (`LC_ALL=C` with `PYTHONUTF8=0`, a Latin-1 locale),
    the program begins anew in Python's UTF-8 mode, which its child processes run in anyway; once, since an option of
    Python's own may forbid it.
    """
    if os.name == "posix" and sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no ÷ shows a question mark
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")
