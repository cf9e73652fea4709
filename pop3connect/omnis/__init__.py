"""The POP3 commands of Omnis Studio: the same names, parameters and result codes."""

from typing import TYPE_CHECKING

from .codes import Code, error_text, kFalse, kTrue
from .commands import Omnis
from .family import OMNIS
from .mailsplit import Part
from .procedures import variables_of

__all__ = [
    "Code",
    "MailSplit",
    "Omnis",
    "POP3Connect",
    "POP3DeleteMessage",
    "POP3Disconnect",
    "POP3ListMessages",
    "POP3MessageCount",
    "POP3Recv",
    "POP3RecvHeaders",
    "POP3RecvMessage",
    "POP3Stat",
    "POP3UndoDeletes",
    "Part",
    "WebDevGetSecureError",
    "WebDevSetConfig",
    "error_text",
    "kFalse",
    "kTrue",
    "set_omnis_folder",
]

MailSplit = OMNIS.MailSplit
POP3Connect = OMNIS.POP3Connect
POP3DeleteMessage = OMNIS.POP3DeleteMessage
POP3Disconnect = OMNIS.POP3Disconnect
POP3ListMessages = OMNIS.POP3ListMessages
POP3MessageCount = OMNIS.POP3MessageCount
POP3Recv = OMNIS.POP3Recv
POP3RecvHeaders = OMNIS.POP3RecvHeaders
POP3RecvMessage = OMNIS.POP3RecvMessage
POP3Stat = OMNIS.POP3Stat
POP3UndoDeletes = OMNIS.POP3UndoDeletes
WebDevGetSecureError = OMNIS.WebDevGetSecureError
WebDevSetConfig = OMNIS.WebDevSetConfig
set_omnis_folder = OMNIS.set_omnis_folder

# Not in __all__: it changes, and `from ... import S1` would copy it once.
S1: str

if not TYPE_CHECKING:
    __getattr__ = variables_of(__name__)
