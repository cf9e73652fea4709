"""
Writes the output of the command line: results to stdout, the rest to stderr.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, TextIO

import attrs
import click
from twisted.logger import LogLevel

from ..redaction import escape

__all__ = [
    "Output",
    "counted",
    "echo",
    "echo_json",
    "output_options",
    "prepare",
    "styled",
    "tell",
]


_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
"""The standard streams by their numbers, and how they are opened."""


@attrs.frozen
class Output:
    """
    How much a command says, and to whom.

    :ivar json: to a program: results are JSON, in one line each.
    :ivar quiet: results and errors only.
    :ivar verbose: also what happens meanwhile.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @property
    def least(self) -> Any:
        """The lowest level of the log that is shown."""
        if self.quiet:
            return LogLevel.error
        return LogLevel.info if self.verbose else LogLevel.warn

    def summary(self, text: str, facts: dict[str, Any]) -> None:
        """Say what was done, unless nobody wants to know."""
        if self.json:
            echo_json(facts)
        elif not self.quiet:
            echo(text)

    def note(self, text: str) -> None:
        """Tell the user something that is neither a result nor an error."""
        if not self.quiet:
            tell(text)

    def detail(self, text: str) -> None:
        """Tell the user what happens, with ``--verbose``."""
        if self.verbose:
            tell(text)


def output_options(
    function: Callable[..., Any], *, json: bool = True
) -> Callable[..., Any]:
    """
    Add the options about the output to a command, which gets the `Output` as `output`.

    :param json: whether the command has a result for programs.
    """

    def command(
        quiet: bool, verbose: bool, as_json: bool = False, **values: Any
    ) -> Any:
        if quiet and verbose:
            raise click.UsageError("give --quiet or --verbose, not both")
        return function(output=Output(as_json, quiet, verbose), **values)

    wrapped: Callable[..., Any] = update_wrapper(command, function)
    options = [
        click.option("--quiet", "-q", is_flag=True, help="Only results and errors."),
        click.option(
            "--verbose", "-v", is_flag=True, help="Tell on stderr what happens."
        ),
    ]
    if json:
        options.append(
            click.option(
                "--json",
                "as_json",
                is_flag=True,
                help="For programs: JSON, by lines.",
            )
        )
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def prepare() -> None:
    """
    Let stdout and stderr accept any text, whatever their encoding.

    A character that the encoding lacks, as most do in cp1252, becomes an escape such as
    ``\\u4f60``.  A stream that is closed, as some jobs have it, leads nowhere.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise a journal or an mbox would be the stderr of a program.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - stays
            setattr(sys, name, nowhere)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def echo(text: str) -> None:
    """Write a line of the result to stdout."""
    # Passed, because click would replace a stream in ASCII by one in UTF-8.
    click.echo(text, file=sys.stdout)


def echo_json(value: Any) -> None:
    """Write a result for programs: one line of JSON, in ASCII."""
    echo(json.dumps(value))


def tell(text: str) -> None:
    """Tell the user something that is not the result: one line on stderr."""
    click.echo(f"pop3connect: {escape(text)}", file=sys.stderr)


def styled(text: str, stream: TextIO, **style: Any) -> str:
    """
    Return a text in a colour or in bold, where that can be seen and is wanted.

    It is plain unless the stream is a terminal, and if the environment variable
    ``NO_COLOR`` has a value (no-color.org).

    :param style: as for `click.style`.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not stream.isatty() else click.style(text, **style)


def counted(count: int, thing: str) -> str:
    """Return a number and what is counted: ``1 message``, ``2 messages``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
