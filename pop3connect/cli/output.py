"""
Writes the output of the command line: results to stdout, the rest to stderr.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import click

from ..redaction import escape

__all__ = ["counted", "echo", "echo_json", "prepare", "tell"]


def prepare() -> None:
    """
    Let stdout and stderr accept any text, whatever their encoding.

    A character that the encoding lacks, as most do in cp1252, becomes an escape such as
    ``\\u4f60``.
    """
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


def counted(count: int, thing: str) -> str:
    """Return a number and what is counted: ``1 message``, ``2 messages``."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
