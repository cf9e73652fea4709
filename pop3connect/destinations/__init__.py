"""Where mail goes: Maildir, mbox, commands and functions, and what each can promise."""

from .base import Destination, Later, Mail, Never, Prepared, Proof, Witness, Witnessed

__all__ = [
    "Destination",
    "Later",
    "Mail",
    "Never",
    "Prepared",
    "Proof",
    "Witness",
    "Witnessed",
]
