"""Servers for tests, in memory or over loopback: for your tests and our own."""

from .mailbox import MailboxServer, Script, ScriptedServer

__all__ = ["MailboxServer", "Script", "ScriptedServer"]
