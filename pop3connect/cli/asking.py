"""
Asks the user before something is deleted or forgotten, unless ``--yes`` was given.
"""

from __future__ import annotations

import sys

import click

__all__ = ["confirm", "yes_option"]

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def confirm(question: str, *, yes: bool) -> bool:
    """
    Ask a question, and return whether the answer is yes.

    :param yes: do not ask: the answer is yes.
    :raises click.UsageError: stdin is not a terminal, so nobody can answer.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        # Input from a pipe was hardly meant as an answer.
        name = click.get_current_context().info_name
        raise click.UsageError(
            f"{name} asks first, and stdin is not a terminal: give --yes"
        )
    return click.confirm(question, err=True)
