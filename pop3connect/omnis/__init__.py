"""The POP3 commands of Omnis Studio: the same names, arguments and result codes."""

from .commands import (
    Code,
    Omnis,
    POP3Connect,
    POP3DeleteMessage,
    POP3Disconnect,
    POP3ListMessages,
    POP3MessageCount,
    POP3Recv,
    POP3RecvHeaders,
    POP3RecvMessage,
    POP3Stat,
    POP3UndoDeletes,
    WebDevGetSecureError,
    WebDevSetConfig,
    error_text,
    set_omnis_folder,
)

__all__ = [
    "Code",
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
    "WebDevGetSecureError",
    "WebDevSetConfig",
    "error_text",
    "set_omnis_folder",
]
