"""Arguments of a command become the fields of a dataclass; what does not fit becomes one line."""

import contextlib
import io
import re
from collections.abc import Callable
from typing import Any, TypeVar

from ._results import InputError

T = TypeVar("T")


def parse(form: Callable[..., T], command: str, arguments: list[str], default: Any = None) -> T:
    """Parse arguments as the fields of a dataclass or the parameters of a function.

    Raises `InputError` in one line, where tyro would draw a box.
    """
    import tyro

    options = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(form, prog=f"odernn {command}", args=arguments, **options)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise InputError(_one_line(said.getvalue(), command)) from None


def _one_line(box: str, command: str) -> str:
    """What matters of an error as tyro draws it: the reason, and flags that come near."""
    # Colours go; a box is drawn in ASCII where the terminal has no UTF-8.
    lines = [
        line.strip("│╭╮╰╯").rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", box).splitlines()
    ]
    sections: list[list[str]] = [[]]
    for line in lines[1:]:  # the first is the title
        if line and not line.strip("─- "):
            sections.append([])
        elif line and not line.startswith(" " * 8):  # further in, the help of an option is repeated
            sections[-1].append(line.strip())
    sections = [section for section in sections if section] or [[]]
    reason = " ".join(sections[0]).rstrip(".") or "the arguments cannot be read"
    near = [
        line.split()[0]
        for section in sections[1:]
        if section and section[0].startswith("Perhaps you meant")
        for line in section[1:]
        if line.startswith("--")
    ]
    hint = f"; did you mean {' or '.join(near[:3])}?" if near else "."
    return f"{reason[0].lower()}{reason[1:]}{hint} See `odernn {command} --help`."
