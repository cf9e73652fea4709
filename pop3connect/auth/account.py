"""
The account to log in to: its name, its password or what returns one, the mechanism.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import Parameter, iscoroutine, signature
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, ensureDeferred, maybeDeferred

from ..errors import UsageError
from ..redaction import Secret
from .sasl import Credentials, forms

__all__ = ["Account", "Password"]

Password = str | Callable[..., "str | Awaitable[str]"]
"""
A password or token, or a function that returns one, a Deferred of one or a coroutine.
If it takes ``refresh``, it is called with ``refresh=True`` when a token has expired.
"""


# Never compared and never shown: methods for that would cost time at every import.
@attrs.frozen(eq=False, repr=False)
class Account:
    """
    The user name, the password, and how to log in with them.

    :ivar auth: ``"auto"``, the name of a mechanism, or an ``IClientAuthentication`` of
        Twisted.
    :ivar allow_cleartext: whether a password may be sent without TLS.
    :ivar capa: whether CAPA may be asked.
    :ivar authorize_as: whose mailbox to open; ``""``: that of ``username``.
    :ivar certificate: whether a client certificate was given.
    """

    username: str
    password: Password
    auth: Any = "auto"
    stls: bool = False
    utf8: bool = False
    allow_cleartext: bool = True
    certificate: bool = False
    capa: bool = True
    authorize_as: str = ""

    @property
    def mailbox(self) -> str:
        """The user whose mailbox is opened."""
        return self.authorize_as or self.username

    def secrets(self, password: str) -> list[bytes]:
        """Return the forms in which a server may repeat a password."""
        return forms(
            Credentials(self.username, Secret(password), authorize_as=self.authorize_as)
        )

    async def ask_password(self, *, refresh: bool) -> Secret:
        """
        Return the password, from the callable if there is one.

        :param refresh: whether the last one had expired.
        :raises UsageError: the callable failed, or returned something else.  One that
            it raises itself is passed on: its text is for the user.
        """
        password: object = self.password
        if callable(password):
            try:
                password = await maybeDeferred(_call, password, refresh)
            except (CancelledError, UsageError):
                raise
            except Exception as error:
                # Its text is not repeated: it may contain a token.
                raise UsageError(
                    f"the password callable failed with {type(error).__name__}; "
                    "nothing of the login was sent"
                ) from error
            if not isinstance(password, str):
                returned = type(password).__name__
                # Bytes are most likely the password; a traceback shows local variables.
                del password
                raise UsageError(
                    f"the password callable returned {returned}, not str; "
                    "nothing of the login was sent"
                )
        # No other local variable has it as it is.
        password = Secret(password)
        return password


def _call(password: Callable[..., object], refresh: bool) -> object:
    """Call a password callable, whatever it is made of."""
    if refresh and _takes_refresh(password):
        result = password(refresh=True)
    else:
        result = password()
    return ensureDeferred(result) if iscoroutine(result) else result


def _takes_refresh(password: Callable[..., object]) -> bool:
    try:
        parameters = signature(password).parameters
    except (TypeError, ValueError):
        return False
    return "refresh" in parameters or any(
        parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters.values()
    )
