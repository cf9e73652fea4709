"""The collector: takes in the mail of many mailboxes and delivers each message once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..destinations.base import Later, Mail, Never
    from .config import read_config
    from .content import BodyHash, content_of, key_of, whole_content_of
    from .identity import Identified, Remembered, identify
    from .inventory import Inventory, ListingRefusedError, take_inventory
    from .lock import InUseError
    from .outcome import Outcome, Plan
    from .records import Content
    from .service import CollectService
    from .settings import (
        AccountSettings,
        Config,
        DestinationSettings,
        PasswordSource,
    )

__all__ = [
    "AccountSettings",
    "BodyHash",
    "CollectService",
    "Config",
    "Content",
    "DestinationSettings",
    "Identified",
    "InUseError",
    "Inventory",
    "Later",
    "ListingRefusedError",
    "Mail",
    "Never",
    "Outcome",
    "PasswordSource",
    "Plan",
    "Remembered",
    "content_of",
    "identify",
    "key_of",
    "read_config",
    "take_inventory",
    "whole_content_of",
]

# Imported when they are used: the service needs SQLAlchemy, and the others do not.
_MODULES = {
    "..destinations.base": ("Later", "Mail", "Never"),
    ".config": ("read_config",),
    ".content": ("BodyHash", "content_of", "key_of", "whole_content_of"),
    ".identity": ("Identified", "Remembered", "identify"),
    ".inventory": ("Inventory", "ListingRefusedError", "take_inventory"),
    ".lock": ("InUseError",),
    ".outcome": ("Outcome", "Plan"),
    ".records": ("Content",),
    ".service": ("CollectService",),
    ".settings": (
        "AccountSettings",
        "Config",
        "DestinationSettings",
        "PasswordSource",
    ),
}

_HOME = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:
    # A type checker would take any name for one of the package's.

    def __getattr__(name: str) -> object:
        """Import a public name from its module."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME[name], __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, *globals()]
