"""
The rules of an account: which messages are fetched, and which are deleted when.

Pure: times come in as arguments, and what is read of a header is bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .records import MessageRow

if TYPE_CHECKING:
    from .settings import AccountSettings

__all__ = ["FIRST_LOOK", "HeaderPattern", "Rules", "date_of"]

FIRST_LOOK = "first look"
"""
How the reason begins for a message that was there at the first look and is not wanted.
It is final until ``accounts reset``.
"""


@attrs.frozen
class HeaderPattern:
    """
    A pattern for the text of a header field, such as ``From: *@example.org``.

    ``*`` stands for any text, ``?`` for one character; upper and lower case are the
    same.  The text is the whole field, decoded; of fields with addresses, each address
    alone as well.
    """

    name: str
    pattern: str

    @classmethod
    def parse(cls, text: object) -> HeaderPattern | None:
        """Return the pattern that a text is; ``None`` if it is not one."""
        raise NotImplementedError

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.name}: {self.pattern}"


def date_of(header: bytes) -> float | None:
    """
    Return when a message arrived, in seconds since 1970; ``None``: that is not known.

    That is the date of the top Received field, which the last server added; else Date.
    """
    raise NotImplementedError


@attrs.frozen(kw_only=True)
class Rules:
    """The rules of one account; the values are those of `AccountSettings`."""

    after: str | float = "keep"
    fetch: str = "message"
    match: tuple[HeaderPattern, ...] = ()
    skip: tuple[HeaderPattern, ...] = ()
    newer_than: float | None = None
    existing: str | float = "new"
    max_size: int | None = None
    list_sizes: str = "exact"

    @classmethod
    def of(cls, settings: AccountSettings) -> Rules:
        """Return the rules in the settings of an account."""
        raise NotImplementedError

    # -- what is fetched

    def needs_header(self, *, first_look: bool) -> bool:
        """Return whether `judge` has to see the header, which TOP reads."""
        raise NotImplementedError

    def leaves(self, size: int) -> str:
        """
        Return why a message of this size in LIST is left on the server.

        :return: the reason for its row, which names the rule; ``""``: it is not left.
        """
        raise NotImplementedError

    def judge(self, header: bytes, *, now: float, first_look: bool) -> str:
        """
        Return why a message is skipped.

        :param header: what TOP gave; not looked at if not `needs_header`.
        :param first_look: whether the account has not been looked at before.
        :return: the reason for its row, which names the rule; ``""``: it is wanted.
        """
        raise NotImplementedError

    def stands(self, reason: str) -> bool:
        """
        Return whether a message that was skipped stays so without being judged again.

        :param reason: that of its row.  It does not stand when the rule that it names
            is not there any more, or has changed.
        """
        raise NotImplementedError

    # -- what is retrieved whole

    def is_short(self, listed: int, got: int, lines: int) -> bool:
        """
        Return whether a retrieved message is too short to be believed.

        :param listed: its size in LIST; 0: unknown.
        :param got: the bytes received, with CRLF line ends.
        :param lines: how many lines those are.
        """
        raise NotImplementedError

    # -- what is deleted

    def delete_after(self, delivered_at: float) -> float | None:
        """Return when a message may be deleted on the server; ``None``: never."""
        raise NotImplementedError

    def deletable(self, row: MessageRow, now: float, *, trusted: bool = True) -> bool:
        """
        Return whether a message is due to be deleted on the server.

        The rules of today decide, not those of the time of its delivery.  A message
        that came back after its deletion was confirmed is due again; after the third
        time once a day.

        :param trusted: ``False``: the clock has jumped, and no age is believed.
        """
        raise NotImplementedError
