"""
The texts of errors for readers of a configuration: ``secure = "tls"`` instead of
``secure=1``.
"""

from __future__ import annotations

import json

import attrs

from ..address import Secure
from ..errors import POP3Error
from ..redaction import escape
from ..remedies import Option
from .settings import AccountSettings

__all__ = ["words"]

_KEYS = frozenset(field.name for field in attrs.fields(AccountSettings))


def words(error: BaseException) -> str:
    """Return the text of an error as one line, with the keys of the configuration."""
    text = error.worded(_key) if isinstance(error, POP3Error) else str(error)
    return escape(text or type(error).__name__)


def _key(option: Option) -> str | None:
    """Return how an option of `connect` is written in a configuration, if it can be."""
    name, value = option
    if name not in _KEYS:
        return None
    if value == ():
        return name
    if name == "secure":
        assert isinstance(value, int)
        value = Secure(value).name.lower()
    # Texts, numbers and flags are the same in TOML.
    return f"{name} = {json.dumps(value)}"
