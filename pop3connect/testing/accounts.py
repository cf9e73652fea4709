"""
The demo server's accounts: their passwords and their mailboxes.

`portal` joins the two as Twisted does: it takes credentials and returns a mailbox.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import overload

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import IUsernameHashedPassword, UsernamePassword
from twisted.cred.error import LoginDenied
from twisted.cred.portal import IRealm, Portal
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import Interface, implementer

from ..errors import UsageError

__all__ = ["APOPDigest", "InUseError", "Maildrop", "MaildropSession", "plain", "portal"]


class Maildrop:
    """
    One account's mail.  One session at a time can use it (RFC 1939 section 4).

    :param messages: their lines end with CRLF, also the last one.
    """

    def __init__(self, messages: Iterable[bytes]) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.in_use = False
        self._delivered: Counter[str] = Counter()
        self.deliver(messages)

    def deliver(
        self, messages: Iterable[bytes], uids: Iterable[str] | None = None
    ) -> list[str]:
        """
        Add messages; later sessions see them.

        :param uids: one unique-id for each message; default: each gets a new one.
        :return: the unique-ids.
        :raises UsageError: there is not one unique-id for each message, or one has a
            line break.
        """
        contents = list(messages)
        if uids is None:
            chosen = [self._new_uid(content) for content in contents]
        else:
            chosen = list(uids)
            if len(chosen) != len(contents):
                raise UsageError(
                    f"deliver() has {len(contents)} messages and {len(chosen)} "
                    "unique-ids; pass one for each message"
                )
        for uid in chosen:
            if "\r" in uid or "\n" in uid:
                raise UsageError(
                    f"the unique-id {uid!r} has a line break; use the characters from "
                    "'!' to '~' (RFC 1939 section 7)"
                )
        encoded = [uid.encode("utf-8", "surrogateescape") for uid in chosen]
        self.messages += zip(encoded, contents, strict=True)
        return chosen

    def _new_uid(self, content: bytes) -> str:
        # From the content, so that it is the same in every session and after a restart,
        # and counted, because an id is never used again (RFC 1939 section 7).
        uid = hashlib.sha256(content).hexdigest()[:24]
        self._delivered[uid] += 1
        times = self._delivered[uid]
        return uid if times == 1 else f"{uid}-{times}"


@implementer(IMailboxPOP3)
class MaildropSession:
    """
    One session's view of a maildrop: fixed numbers, and marks for deletion.

    A deleted message has size 0, as the interface says.
    """

    def __init__(self, drop: Maildrop) -> None:
        drop.in_use = True
        self._drop = drop
        self._messages = list(drop.messages)
        self._deleted: set[int] = set()

    @overload
    def listMessages(self) -> list[int]: ...

    @overload
    def listMessages(self, i: int) -> int: ...

    def listMessages(self, i: int | None = None) -> int | list[int]:
        """Return one message's size, or every message's; 0 for a deleted one."""
        if i is None:
            return [self._size(index) for index in range(len(self._messages))]
        return self._size(i)

    def _size(self, index: int) -> int:
        return 0 if index in self._deleted else len(self._at(index)[1])

    def _at(self, index: int) -> tuple[bytes, bytes]:
        if not 0 <= index < len(self._messages):
            raise ValueError("no such message")
        return self._messages[index]

    def getMessage(self, index: int) -> BytesIO:
        """Return the message as a file."""
        return BytesIO(self._at(index)[1])

    def getUidl(self, index: int) -> bytes:
        """Return the message's unique id."""
        return self._at(index)[0]

    def deleteMessage(self, index: int) -> None:
        """Mark the message; `sync` deletes it."""
        self._at(index)
        self._deleted.add(index)

    def undeleteMessages(self) -> None:
        """Take all marks away."""
        self._deleted.clear()

    def sync(self) -> None:
        """Delete the marked messages: the UPDATE state (RFC 1939 section 6)."""
        # By identity: two messages may be equal, and have the same id.
        gone = {id(self._messages[index]) for index in self._deleted}
        self._drop.messages = [
            one for one in self._drop.messages if id(one) not in gone
        ]

    def release(self) -> None:
        """Allow the next session.  Marks that were not `sync`-ed are lost."""
        self._drop.in_use = False


class InUseError(LoginDenied):
    """Another session uses the maildrop."""


@implementer(IRealm)
class _Realm:
    def __init__(self, drops: Mapping[bytes, Maildrop]) -> None:
        self._drops = drops

    def requestAvatar(
        self,
        avatarId: bytes | tuple[()],
        mind: object,
        *interfaces: type[Interface],
    ) -> tuple[type[Interface], MaildropSession, Callable[[], None]]:
        assert isinstance(avatarId, bytes)
        if IMailboxPOP3 not in interfaces:
            raise NotImplementedError("IMailboxPOP3 is the only interface")
        drop = self._drops[avatarId]
        if drop.in_use:
            raise InUseError
        session = MaildropSession(drop)
        return IMailboxPOP3, session, session.release


@implementer(IUsernameHashedPassword)
class APOPDigest:
    """The credentials of an APOP command (RFC 1939 section 7)."""

    # Twisted's own APOPCredentials compares bytes with text, which are never equal.
    def __init__(self, challenge: bytes, username: bytes, digest: bytes) -> None:
        self._challenge = challenge
        self.username = username
        self._digest = digest

    def checkPassword(self, password: bytes) -> bool:
        """Return whether the digest was made with this password."""
        # APOP is defined with MD5 (RFC 1939 section 7).
        digest = hashlib.md5(self._challenge + password, usedforsecurity=False)
        return hmac.compare_digest(digest.hexdigest().encode(), self._digest.lower())


def plain(response: bytes) -> UsernamePassword:
    """
    Read a response of SASL PLAIN.

    :raises ValueError: it is malformed, or asks for another user's mailbox.
    """
    try:
        decoded = base64.b64decode(response, validate=True)
    except binascii.Error:
        decoded = b""
    # Decoding ignores the unused bits at the end; RFC 4648 section 3.5.
    if base64.b64encode(decoded) != response:
        raise ValueError("this is not base64")
    # RFC 4616 section 2: [authzid] NUL authcid NUL passwd
    parts = decoded.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise ValueError("this is not a PLAIN response")
    acting_as, user, password = parts
    if acting_as not in (b"", user):
        raise ValueError("[AUTH] nobody may act for somebody else")
    return UsernamePassword(user, password)


def portal(passwords: Mapping[bytes, bytes], drops: Mapping[bytes, Maildrop]) -> Portal:
    """
    Return the portal that checks passwords and gives mailboxes.

    :param passwords: the password of each account.
    :param drops: the mail of each account.
    """
    accounts = InMemoryUsernamePasswordDatabaseDontUse()
    for name, password in passwords.items():
        accounts.addUser(name, password)
    return Portal(_Realm(drops), [accounts])
