"""How the demo speaks: numbered headings, lines to paste, answers cut to a readable size; colours on terminals only."""

import json
import os
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from scripts.lib.console import write_line

_WIDTH: Final = 100
_INDENT: Final = "    "
_BOLD, _COMMAND, _REFUSED, _FAILED, _PLAIN = "\x1b[1m", "\x1b[1;34m", "\x1b[33m", "\x1b[1;31m", "\x1b[0m"


class Narrator:
    """Writes the story to a stream."""

    def __init__(self, stream: TextIO) -> None:
        """Write in colours if the stream is a terminal, and NO_COLOR (no-color.org) does not forbid it."""
        self._stream = stream
        self._colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._chapters = 0

    def heading(self, title: str, why: str) -> None:
        """Begin a chapter, with a sentence on why it matters."""
        self._chapters += 1
        self._write("")
        self._write(self._in(_BOLD, f"{self._chapters}. {title}"))
        self.text(why)

    def text(self, text: str) -> None:
        """Write a paragraph."""
        self._write(textwrap.fill(text, _WIDTH))

    def command(self, line: str) -> None:
        """Write a line for a shell, not wrapped, so that it can be pasted."""
        self._write("")
        self._write(self._in(_COMMAND, line))

    def answer(self, answer: Mapping[str, Any]) -> None:
        """Write a response, each field on a line that is cut where it gets too long."""
        self._indented(shortened(answer))

    def output(self, text: str) -> None:
        """Write what a program printed, as it is."""
        self._indented(text.strip().splitlines())

    def refusal(self, text: str) -> None:
        """Write what a program printed of a refusal."""
        self._indented(self._in(_REFUSED, line) for line in text.strip().splitlines())

    def row(self, text: str, *, refused: bool = False, failed: bool = False) -> None:
        """Write a line of a table or a tree; mark what was refused, or failed."""
        colour = _FAILED if failed else _REFUSED if refused else _PLAIN
        self._indented([self._in(colour, text)])

    def gap(self) -> None:
        """Write an empty line."""
        self._write("")

    def _indented(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._write(_INDENT + line)

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours and colour != _PLAIN else text

    def _write(self, line: str) -> None:
        write_line(self._stream, line)


def shortened(answer: Mapping[str, Any]) -> list[str]:
    """Return a response, which holds one resource, as JSON with a line for each field, cut where it gets too long."""
    (name, resource), *_ = answer.items()
    fields = [f"    {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in resource.items()]
    return ["{", f"  {json.dumps(name)}: {{", *(_cut(text + ",") for text in fields[:-1]), *fields[-1:], "  }", "}"]


def _cut(line: str) -> str:
    limit = _WIDTH - len(_INDENT)
    return line if len(line) <= limit else line[: limit - 1] + "…"
