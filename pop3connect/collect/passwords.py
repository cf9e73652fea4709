"""
Finds the password of an account: at each login again, so it may change.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThreadPool

from ..errors import UsageError
from ..programs import RunError, find_program, run, safe_environment
from ..proxy import ProxyAddress
from ..redaction import Secret, SecretBytes, first_line
from .settings import AccountSettings, Password, PasswordSource

__all__ = ["PASSWORD_TIMEOUT", "check_password", "exposed", "password_for"]

PASSWORD_TIMEOUT = 60.0
"""Seconds for ``password_command``."""

MAX_FILE = 64 * 1024
"""Bytes that are read of a file with a password.  A token has a few thousand."""


class _NoPasswordError(Exception):
    """The password cannot be found; the message says why."""


def password_for(
    settings: AccountSettings,
    folder: Path,
    reactor: Any,
    secrets: Iterable[str] = (),
) -> Password:
    """
    Return the password function for `Connector.connect`.

    It fails with `UsageError` if the password cannot be found.

    :param folder: where programs run.
    :param secrets: the environment variables that programs do not get.
    """
    source = settings.password
    if not isinstance(source, PasswordSource):
        return source
    ask: Callable[[], Awaitable[Secret]]
    if source.key == "password_command":
        ask = partial(_printed, reactor, source.value, folder, frozenset(secrets))
    elif source.key == "password_keyring":
        ask = partial(_in_thread, reactor, source.value, settings.user)
    else:
        ask = partial(_kept_now, source)
    return partial(_ask, source.key, ask)


def check_password(settings: AccountSettings, folder: Path) -> None:
    """
    Check that a password can be found, without running a program.

    :raises UsageError: it cannot.
    """
    source = settings.password
    if not isinstance(source, PasswordSource):
        return
    try:
        if source.key == "password_command":
            find_program(source.value[0], folder, os.environ)
        elif source.key == "password_keyring":
            _in_keyring(source.value, settings.user)
        else:
            _kept(source)
    except _TROUBLE as error:
        why = _why(error)
    else:
        return
    raise UsageError(f"{source.key}: {why}")


def exposed(settings: AccountSettings, file: Path | None) -> Path | None:
    """
    Return the file with a password of an account, if every user may read it.

    :param file: the configuration, which may have the password itself in it.
    """
    if os.name != "posix":
        return None
    source, files = settings.password, []
    if isinstance(source, PasswordSource):
        files.append({"password": file, "password_file": source.value}.get(source.key))
    if settings.proxy is not None and any(ProxyAddress.parse(settings.proxy).secrets):
        files.append(file)
    for found in files:
        with suppress(OSError):
            if found is not None and Path(found).stat().st_mode & stat.S_IROTH:
                return Path(found)
    return None


async def _ask(key: str, ask: Callable[[], Awaitable[Secret]]) -> str:
    try:
        return await ask()
    except _TROUBLE as error:
        # Not as the cause, and not in full: a part of the password may be in it.
        why = _why(error)
    raise UsageError(f"{key}: {why}; no login was tried")


async def _printed(
    reactor: Any, command: tuple[str, ...], folder: Path, secrets: frozenset[str]
) -> Secret:
    # A traceback that shows local variables must not show the password.
    output = SecretBytes(
        await run(
            reactor,
            command,
            folder=folder,
            environment=safe_environment(secrets),
            limit=PASSWORD_TIMEOUT,
        )
    )
    return _password(output.decode())


async def _in_thread(reactor: Any, service: str, user: str) -> Secret:
    # A keyring may ask another program, or a person.
    return await deferToThreadPool(
        reactor, reactor.getThreadPool(), _in_keyring, service, user
    )


async def _kept_now(source: PasswordSource) -> Secret:
    return _kept(source)


def _kept(source: PasswordSource) -> Secret:
    """Return the password in the configuration, the variable or the file."""
    if source.key == "password_env":
        # Its name is not repeated: it may be the password, under the wrong key.
        text = os.environ.get(source.value, "")
        return _password(text, "that environment variable")
    if source.key == "password_file":
        text = _content(Path(source.value)).decode("utf-8")
        return _password(text, f"the first line of {source.value}")
    return _password(source.value)


def _content(path: Path) -> SecretBytes:
    # Through links, which systems that hand out secrets use; a FIFO does not block.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _NoPasswordError(f"{path} is not a file")
        return SecretBytes(os.read(descriptor, MAX_FILE))
    finally:
        os.close(descriptor)


def _in_keyring(service: str, user: str) -> Secret:
    if find_spec("keyring") is None:
        raise _NoPasswordError("the package keyring is missing: pip install keyring")
    why = ""
    try:
        import keyring

        known = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - backends are plug-ins
        why = f"{type(error).__name__}: {error}".rstrip(": ")
    else:
        if known:
            return _password(known)
    if why:
        raise _NoPasswordError(f"the keyring cannot be read: {why}")
    raise _NoPasswordError(
        f"the keyring has no password of {user} for {service}; "
        f"'keyring set {service} {user}' adds one"
    )


def _password(text: str, name: str = "its output") -> Secret:
    secret = first_line(text)
    if not secret:
        raise _NoPasswordError(f"there is nothing in {name}")
    return secret


_TROUBLE = (OSError, UnicodeError, RunError, _NoPasswordError)


def _why(error: Exception) -> str:
    return "it is not UTF-8" if isinstance(error, UnicodeError) else str(error)
