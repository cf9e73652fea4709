"""
Words errors for Omnis programs, in which the parameters have other names.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import POP3Error
from ..remedies import Option

__all__ = ["words"]

_PARAMETERS: Mapping[str, str] = {
    "cacerts": "set_omnis_folder(), whose secure/cacerts holds it",
    "connect_timeout": "commstimeout",
    "timeout": "commstimeout",
}


def words(error: BaseException) -> str:
    """
    Return the text of an error, with the parameters of the Omnis commands.

    A remedy with an option that the commands do not have is left out.
    """
    return error.worded(_parameter) if isinstance(error, POP3Error) else str(error)


def _parameter(option: Option) -> str | None:
    name, value = option
    if name in ("secure", "auth"):
        return f"{name} {value!r}"
    return _PARAMETERS.get(name)
