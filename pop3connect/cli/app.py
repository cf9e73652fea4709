"""
The command ``pop3connect``, and its exit status.
"""

from __future__ import annotations

import click
from click.shell_completion import add_completion_class

from .._version import __version__
from .accounts import accounts_group
from .collected import messages_group
from .completing import BashCompletion
from .database import database_group
from .discover import discover_command
from .exits import Exit
from .fetch import fetch_command
from .info import info_command
from .listing import list_command, stat_command
from .messages import delete_command, get_command, top_command
from .output import prepare, tell

__all__ = ["main", "pop3connect"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pop3connect")
def pop3connect() -> None:
    """
    Look into POP3 mailboxes, and fetch mail from them.

    The commands accounts, messages and database are for the administrators of a
    collector, which 'twistd pop3connect collect' starts.

    SERVER is a host, host:port, or @NAME: an account in the file
    ~/.config/pop3connect/accounts.toml.

    The password comes from --password-command, --keyring, --netrc, the account, the
    environment variable POP3CONNECT_PASSWORD, or a prompt.
    """


for _command in (
    info_command,
    discover_command,
    stat_command,
    list_command,
    fetch_command,
    top_command,
    get_command,
    delete_command,
    accounts_group,
    messages_group,
    database_group,
):
    pop3connect.add_command(_command)


def main() -> int:
    """Run the command line, and return its exit status."""
    prepare()
    add_completion_class(BashCompletion)
    try:
        return pop3connect.main(prog_name="pop3connect", standalone_mode=False) or 0
    except click.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        _complain(error)
        return error.exit_code


def _complain(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        # No command at all: this error is the help.
        error.show()
        return
    text = " ".join(error.format_message().split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        text = f"{text.rstrip('.')}; see '{context.command_path} --help'"
    tell(text)
