"""
Finds the password; never in an argument, which every user of the computer can see.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib.util import find_spec

import click

from ..auth.policy import NO_PASSWORD
from ..redaction import Secret, SecretBytes, first_line
from .access import Access
from .named import NamedAccount

__all__ = ["PASSWORD_VARIABLE", "read_password"]

PASSWORD_VARIABLE = "POP3CONNECT_PASSWORD"  # noqa: S105 - the name of a variable


def read_password(access: Access) -> Secret | NamedAccount:
    """
    Get the password: from a program, the keyring, a netrc file, the account that was
    named, the environment, or the user.

    :return: the password, or the account; then it is found at the login.
    :raises click.UsageError: the password cannot be found; the message says why.
    """
    if access.user is None:
        raise click.UsageError("the user is missing: give --user NAME")
    if access.auth.upper() in NO_PASSWORD:
        return Secret()
    chosen = {
        "--keyring": access.keyring,
        "--netrc": access.netrc is not None,
        "--password-command": access.password_command is not None,
    }
    given = [option for option, wanted in chosen.items() if wanted]
    if len(given) > 1:
        raise click.UsageError(f"give {' or '.join(given)}, not both")
    if access.password_command is not None:
        return _from_program(access.password_command)
    if access.keyring:
        return _from_keyring(access.address.host, access.user)
    if access.netrc is not None:
        # Not at the top: it is seldom needed.
        from .netrc_file import password_in

        return password_in(access.netrc, access.address.host, access.user)
    if access.account is not None and access.account.has_password_of(access.user):
        return access.account
    known = os.environ.get(PASSWORD_VARIABLE)
    if known:
        return Secret(known)
    return _from_user(f"Password of {access.user} at {access.address.host}")


def _from_program(command: str) -> Secret:
    # Errors are raised outside of "except": those of Python's library hold the output,
    # and a traceback that shows local variables would show it.
    try:
        # The user gave this command, and it is not run by a shell.
        done = subprocess.run(  # noqa: S603
            shlex.split(command), stdout=subprocess.PIPE, check=False
        )
        status, output = done.returncode, SecretBytes(done.stdout)
        del done
        lines = Secret("" if status else output.decode())
    except UnicodeDecodeError:
        why = "its output is not UTF-8"
    except (OSError, ValueError, IndexError) as error:
        why = str(error)
    else:
        why = f"its exit status was {status}" if status else ""
        first = first_line(lines)
        if first:
            return first
    if why:
        raise click.UsageError(f"--password-command failed: {why}")
    raise click.UsageError("--password-command printed no password")


def _from_keyring(service: str, user: str) -> Secret:
    if find_spec("keyring") is None:
        raise click.UsageError(
            "--keyring needs the package keyring: pip install keyring"
        )
    try:
        import keyring

        known = keyring.get_password(service, user)
    except Exception as error:
        # Backends are plug-ins, and raise errors of D-Bus or of imports unchanged.
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        raise click.UsageError(
            f"the keyring cannot be read: {why}; try 'keyring diagnose', or use "
            f"--password-command or {PASSWORD_VARIABLE}"
        ) from error
    if not known:
        raise click.UsageError(
            f"the keyring has no password of {user} for {service}; "
            f"'keyring set {service} {user}' adds one"
        )
    return Secret(known)


def _from_user(question: str) -> Secret:
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"the password is missing, and stdin is not a terminal: set "
            f"{PASSWORD_VARIABLE}, or use --keyring, --netrc or --password-command"
        )
    return Secret(click.prompt(question, hide_input=True, err=True))
