from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from tuneoff.cli.terminal import Terminal
from tuneoff.report.markdown import fenced, plain
from tuneoff.visible import visible

ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def test_what_would_act_is_shown() -> None:
    assert visible(ESCAPE) == r"\x1b]0;owned\x07\x1b[2J"
    assert visible("a\tb\nñ 漢 🎈 שלום") == "a\tb\nñ 漢 🎈 שלום"
    assert visible("left \u202eright\u202c \x9b31m \u2028") == r"left \u202eright\u202c \x9b31m \u2028"


@given(st.text())
def test_nothing_that_acts_is_left(text: str) -> None:
    shown = visible(text)
    assert all(character in "\t\n" or character >= " " for character in shown)
    assert "\x7f" not in shown and "\x9b" not in shown
    shown.encode()


def test_the_terminal_shows_what_a_text_holds_and_keeps_its_own_colours() -> None:
    stream = io.StringIO()
    terminal = Terminal(file=stream, force_terminal=True, width=60, color_system="standard", legacy_windows=False)
    table = Table()
    table.add_column("arm")
    table.add_row(ESCAPE)
    terminal.print(table)
    terminal.print(Text(f"bold {ESCAPE}", style="bold"))
    out = stream.getvalue()
    assert r"\x1b]0;owned" in out and r"\x1b[2J" in out
    assert "\x1b]0" not in out and "\x07" not in out and "\x1b[2J" not in out
    assert "\x1b[1m" in out  # bold


def test_markdown_takes_nothing_for_a_mark() -> None:
    assert plain("# a | b\n<b>[x](y)</b> `c` *d* _e_") == (r"\# a \| b \<b\>\[x\](y)\</b\> \`c\` \*d\* \_e\_")
    assert plain(ESCAPE) == r"\\x1b\]0;owned\\x07\\x1b\[2J"
    assert fenced("```\nx\x1b") == "````\n```\nx\\x1b\n````"
