"""
Checks the parameters of commands: one that does not fit is -501, and nothing is sent.
"""

from __future__ import annotations

from ..auth import policy
from ..redaction import printable
from .codes import Code, RefusedError
from .procedures import takes_text

__all__ = [
    "check",
    "check_bytearray",
    "check_list",
    "check_login",
    "check_procedure",
]


def check(fits: bool, name: str, wanted: str, value: object) -> None:
    """
    Refuse a parameter that does not fit.

    :param wanted: what the parameter must be.
    :raises RefusedError: -501, if it does not fit.
    """
    if not fits:
        shown = printable(repr(value).encode("utf-8", "backslashreplace"))[:80]
        raise RefusedError(Code.PARAMETER_TYPE, f"{name} must be {wanted}, not {shown}")


def check_procedure(stsproc: object) -> None:
    """
    Refuse a status procedure that cannot be called as one.

    :raises RefusedError: -501.
    """
    if stsproc is None or (isinstance(stsproc, str) and not stsproc):
        return
    check(
        callable(stsproc) and takes_text(stsproc) is not None,
        "stsproc",
        "a function with one parameter or none, or '' for none",
        # The type: if the parameters are in the wrong order, it is the password.
        type(stsproc),
    )


def check_login(auth: object) -> None:
    """
    Refuse an ``auth`` that `pop3connect.connect` does not know.

    :raises UsageError: it is not known.
    """
    if auth and not callable(getattr(auth, "challengeResponse", None)):
        policy.check_auth(auth)


def check_list(name: str, value: object) -> None:
    """
    Refuse a parameter that is not a list to fill.

    :raises RefusedError: -501.
    """
    check(isinstance(value, list), name, "a list", type(value))


def check_bytearray(name: str, value: object) -> None:
    """
    Refuse a parameter that is not a bytearray to fill.

    :raises RefusedError: -501.
    """
    check(isinstance(value, bytearray), name, "a bytearray", type(value))
