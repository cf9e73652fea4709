"""
The commands as values: the line to send, the shape of the reply, how to read it.

Pure.  Arguments are checked when a command is built, so that what reaches the
wire is one line, in the form that RFC 1939, 2449, 2595 and 5034 allow.
"""

from __future__ import annotations

import enum
import re
from typing import Any, ClassVar, Final, Generic, TypeVar

from ..errors import UsageError
from ..redaction import MASK, SecretBytes, hidden, printable
from ..remedies import Remedy
from ..results import UID, Capabilities, Listing, Stat
from .readers import (
    CapabilityReader,
    LanguageReader,
    ListingReader,
    Reader,
    UIDReader,
)
from .replies import (
    MAX_NUMBER,
    Status,
    check_same,
    parse_one_listing,
    parse_stat,
    parse_uid_reply,
)

__all__ = [
    "Apop",
    "Auth",
    "AuthReply",
    "Capa",
    "Command",
    "Custom",
    "CustomBody",
    "Dele",
    "Lang",
    "LangList",
    "List",
    "ListOne",
    "Noop",
    "Pass",
    "Quit",
    "Retrieve",
    "Rset",
    "Shape",
    "StatCommand",
    "Stls",
    "Top",
    "Uidl",
    "UidlOne",
    "User",
    "Utf8",
    "message_number",
]

T_co = TypeVar("T_co", covariant=True)

MAX_LINE = 255
"""Octets of a command line with its CR LF (RFC 2449 section 4)."""


class Shape(enum.Enum):
    """What answers a command."""

    LINE = "a status line"
    BODY = "a status line, and after +OK a body"
    CHALLENGE = 'a status line, or "+ " and a challenge (RFC 5034 section 4)'


def command_line(verb: str, *arguments: str) -> bytes:
    """
    Join a command line, checked.

    :raises UsageError: it cannot be one line of at most `MAX_LINE` octets.
    """
    line = " ".join((verb, *arguments)).encode("utf-8", "surrogateescape") + b"\r\n"
    size = len(line)
    if size > MAX_LINE:
        # A traceback that shows local variables must not show a password.
        del line, arguments
        raise UsageError(
            f"the argument is too long: the whole line may have {MAX_LINE} octets "
            f"(RFC 2449), and has {size}",
            verb=verb,
        )
    return line


def _secret_line(verb: str, *arguments: str) -> SecretBytes:
    """Join a command line that no ``repr`` shows, checked as by `command_line`."""
    return SecretBytes(command_line(verb, *arguments))


def check_text(what: str, text: str, verb: str | None = None) -> None:
    """
    Refuse what cannot be part of a line, without repeating it: it may be secret.

    :raises UsageError: it is not a str, is empty, or has a CR, LF or NUL in it.
    """
    if not isinstance(text, str):
        raise UsageError(
            f"the {what} must be a str, not {type(text).__name__}", verb=verb
        )
    if not text:
        raise UsageError(f"the {what} is empty", verb=verb)
    if text.isascii() and text.isprintable():
        return
    if text.encode("utf-8", "replace") != text.encode("utf-8", "surrogatepass"):
        raise UsageError(
            f"the {what} contains half a character (a surrogate), which UTF-8 cannot "
            "encode",
            verb=verb,
        )
    for char, name in (("\r", "CR"), ("\n", "LF"), ("\0", "NUL")):
        if char in text:
            raise UsageError(
                f"the {what} has a {name} at index {text.index(char)}, which POP3 "
                "cannot send",
                verb=verb,
            )


def _brief(value: object) -> str:
    # Python refuses to show an int of 5,000 digits.
    if type(value) is int and abs(value) > MAX_NUMBER:
        return "an int of more than 64 bits"
    return repr(value)


class Command(Generic[T_co]):
    """
    What all commands have.

    They are values: nothing changes them, and they are equal if their lines are.
    They are not made by attrs: such classes take longer to import than all the rest of
    this module, and longer to build when RETR is built for each message.

    :cvar verb: the verb, in upper case.
    :cvar shape: the shape of the reply.
    :cvar verbatim: whether the result is the body as it is.
    """

    __slots__ = ()

    verb: str
    shape: ClassVar[Shape] = Shape.LINE
    verbatim: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        """Compare what is sent."""
        return type(other) is type(self) and other.line() == self.line()

    def __hash__(self) -> int:
        """Return the same hash for equal commands."""
        return hash((type(self), self.line()))

    def __repr__(self) -> str:
        """Show the line, without secrets."""
        return f"<{self.shown()}>"

    def line(self) -> bytes:
        """Return the line to send, with CR LF."""
        return b"%s\r\n" % self.verb.encode("ascii")

    def shown(self) -> str:
        """Return the line as it is shown, without secrets."""
        return self.line()[:-2].decode("ascii", "backslashreplace")

    def parse(self, status: Status) -> Any:
        """
        Return the value of a reply that is a single line, ``+OK``.

        :raises BadReplyError: it does not answer this command.
        """
        return None

    def reader(self, max_rows: int) -> Reader[T_co] | None:
        """
        Return the reader of the reply's body; ``None``: the body itself is the result.

        :param max_rows: rows that a listing of messages may have.
        """
        return None


class _Plain(Command[None]):
    """A command whose ``+OK`` has no value."""

    __slots__ = ()


class _Numbered(Command[T_co]):
    """A command about one message."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        # bool is an int, and message number True is a mistake.
        if type(number) is not int or not 1 <= number <= MAX_NUMBER:
            raise UsageError(
                f"a message number must be an int from 1 to 2**63 - 1, not "
                f"{_brief(number)}",
                verb=self.verb,
            )
        self.number: Final = number

    def line(self) -> bytes:
        """Return the line to send."""
        return b"%s %d\r\n" % (self.verb.encode("ascii"), self.number)


def message_number(command: Command[Any]) -> int | None:
    """Return the number of the message that a command is about, if there is one."""
    return command.number if isinstance(command, _Numbered) else None


# -- before the login


class Capa(Command[Capabilities]):
    """CAPA (RFC 2449 section 5)."""

    __slots__ = ()

    verb = "CAPA"
    shape = Shape.BODY

    def reader(self, max_rows: int) -> Reader[Capabilities]:
        """Read the rows."""
        return CapabilityReader()


class Stls(_Plain):
    """STLS (RFC 2595 section 4)."""

    __slots__ = ()

    verb = "STLS"


class User(_Plain):
    """USER (RFC 1939 section 7)."""

    __slots__ = ("name",)

    verb = "USER"

    def __init__(self, name: str) -> None:
        check_text("user name", name, self.verb)
        self.name: Final = name
        self.line()

    def line(self) -> bytes:
        """Return the line to send."""
        return command_line(self.verb, self.name)

    def shown(self) -> str:
        """Show the name."""
        return f"USER {self.name}"


class Pass(_Plain):
    """PASS (RFC 1939 section 7): all after the one blank is the password."""

    __slots__ = ("password",)

    verb = "PASS"

    def __init__(self, password: str) -> None:
        password = hidden(password)
        check_text("password", password, self.verb)
        self.password: Final = password
        self.line()

    def line(self) -> bytes:
        """Return the line to send."""
        return _secret_line(self.verb, self.password)

    def shown(self) -> str:
        """Mask the password."""
        return f"PASS {MASK}"


class Apop(_Plain):
    """APOP (RFC 1939 section 7)."""

    __slots__ = ("digest", "name")

    verb = "APOP"

    def __init__(self, name: str, digest: str) -> None:
        digest = hidden(digest)
        check_text("user name", name, self.verb)
        check_text("digest", digest, self.verb)
        if " " in name:
            raise UsageError(
                "APOP cannot send a user name that contains a space", verb=self.verb
            )
        self.name: Final = name
        self.digest: Final = digest
        self.line()

    def line(self) -> bytes:
        """Return the line to send."""
        return _secret_line(self.verb, self.name, self.digest)

    def shown(self) -> str:
        """Mask the digest: passwords can be tried against it."""
        return f"APOP {self.name} {MASK}"


class _Challenged(Command[Status]):
    """A step of AUTH: the reply is a challenge, in base64, or ends it."""

    __slots__ = ()

    verb = "AUTH"
    shape = Shape.CHALLENGE

    def parse(self, status: Status) -> Status:
        """Return the status line: its meaning depends on the mechanism."""
        return status


class Auth(_Challenged):
    """AUTH (RFC 5034 section 4); ``initial`` is base64, ``"="`` for an empty one."""

    __slots__ = ("initial", "mechanism")

    def __init__(self, mechanism: str, initial: str | None = None) -> None:
        check_text("mechanism", mechanism, self.verb)
        if initial is not None:
            initial = hidden(initial)
            check_text("initial response", initial, self.verb)
        self.mechanism: Final = mechanism
        self.initial: Final = initial
        self.line()

    def line(self) -> bytes:
        """Return the line to send."""
        initial = () if self.initial is None else (self.initial,)
        return _secret_line(self.verb, self.mechanism, *initial)

    def shown(self) -> str:
        """Mask the initial response."""
        return f"AUTH {self.mechanism}" + ("" if self.initial is None else f" {MASK}")


class AuthReply(_Challenged):
    """
    An answer to a challenge of AUTH: base64, or ``"*"`` to cancel (RFC 5034).

    It may have any length that the mechanism makes, and goes out in one write.
    """

    __slots__ = ("response",)

    def __init__(self, response: str) -> None:
        response = hidden(response)
        # It may be empty (RFC 5034 section 4).
        if response:
            check_text("response", response, self.verb)
        if not response.isascii():
            raise UsageError("the response is not base64", verb=self.verb)
        self.response: Final = response

    def line(self) -> bytes:
        """Return the line to send."""
        return SecretBytes(self.response.encode("ascii") + b"\r\n")

    def shown(self) -> str:
        """Mask the response."""
        return "*" if self.response == "*" else MASK


class Utf8(_Plain):
    """UTF8 (RFC 6856 section 2)."""

    __slots__ = ()

    verb = "UTF8"


# -- before and after


_LANGUAGE_TAG = r"[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*\Z"


class Lang(_Plain):
    """LANG with a tag, or ``"*"`` for the server's own (RFC 6856 section 3)."""

    __slots__ = ("tag",)

    verb = "LANG"

    def __init__(self, tag: str) -> None:
        check_text("language tag", tag, self.verb)
        if tag != "*" and re.match(_LANGUAGE_TAG, tag) is None:
            raise UsageError(
                f"{tag!r} is not a language tag like 'en' or 'pt-BR' (RFC 5646)",
                verb=self.verb,
            )
        self.tag: Final = tag

    def line(self) -> bytes:
        """Return the line to send."""
        return command_line(self.verb, self.tag)


class LangList(Command[dict[str, str]]):
    """LANG without a tag: list the languages (RFC 6856 section 3)."""

    __slots__ = ()

    verb = "LANG"
    shape = Shape.BODY

    def reader(self, max_rows: int) -> Reader[dict[str, str]]:
        """Read the rows."""
        return LanguageReader()


# -- after the login


class StatCommand(Command[Stat]):
    """STAT (RFC 1939 section 5)."""

    __slots__ = ()

    verb = "STAT"

    def parse(self, status: Status) -> Stat:
        """Read the two numbers."""
        return parse_stat(status.text)


class List(Command[list[Listing]]):
    """LIST of all messages (RFC 1939 section 5)."""

    __slots__ = ()

    verb = "LIST"
    shape = Shape.BODY

    def reader(self, max_rows: int) -> Reader[list[Listing]]:
        """Read the rows."""
        return ListingReader(max_rows)


class ListOne(_Numbered[Listing]):
    """LIST of one message (RFC 1939 section 5)."""

    __slots__ = ()

    verb = "LIST"

    def parse(self, status: Status) -> Listing:
        """Read the scan listing, which must be of the message asked for."""
        listing = parse_one_listing(status.text)
        check_same(self.number, listing.number)
        return listing


class Uidl(Command[list[UID]]):
    """UIDL of all messages (RFC 1939 section 7)."""

    __slots__ = ()

    verb = "UIDL"
    shape = Shape.BODY

    def reader(self, max_rows: int) -> Reader[list[UID]]:
        """Read the rows."""
        return UIDReader(max_rows)


class UidlOne(_Numbered[UID]):
    """UIDL of one message (RFC 1939 section 7)."""

    __slots__ = ()

    verb = "UIDL"

    def parse(self, status: Status) -> UID:
        """Read the unique-id listing, which must be of the message asked for."""
        return parse_uid_reply(status.text, self.number)


class Retrieve(_Numbered[bytes]):
    """RETR (RFC 1939 section 5)."""

    __slots__ = ()

    verb = "RETR"
    shape = Shape.BODY
    verbatim = True

    def line(self) -> bytes:
        """Return the line to send."""
        return b"RETR %d\r\n" % self.number


class Top(_Numbered[bytes]):
    """TOP (RFC 1939 section 7): the header and the first lines of the text."""

    __slots__ = ("lines",)

    verb = "TOP"
    shape = Shape.BODY
    verbatim = True

    def __init__(self, number: int, lines: int = 0) -> None:
        super().__init__(number)
        if type(lines) is not int or not 0 <= lines <= MAX_NUMBER:
            raise UsageError(
                f"lines must be an int from 0 to 2**63 - 1, not {_brief(lines)}",
                verb=self.verb,
                number=number,
            )
        self.lines: Final = lines

    def line(self) -> bytes:
        """Return the line to send."""
        return b"TOP %d %d\r\n" % (self.number, self.lines)


class Dele(_Numbered[None]):
    """DELE (RFC 1939 section 5): marks only; QUIT deletes."""

    __slots__ = ()

    verb = "DELE"


class Rset(_Plain):
    """RSET (RFC 1939 section 5)."""

    __slots__ = ()

    verb = "RSET"


class Noop(_Plain):
    """NOOP (RFC 1939 section 5)."""

    __slots__ = ()

    verb = "NOOP"


class Quit(_Plain):
    """QUIT (RFC 1939 sections 4 and 6)."""

    __slots__ = ()

    verb = "QUIT"


# -- extensions of a provider

_VERB = r"[!-~]+\Z"

_REMEDIES = {
    **dict.fromkeys(
        ("APOP", "AUTH", "PASS", "RPOP", "USER"),
        "connect() logs in: see its parameters username, password and auth",
    ),
    **dict.fromkeys(("STARTTLS", "STLS"), "call connect() with secure=2"),
    "CAPA": "use capa()",
    "DELE": "use delete()",
    "LANG": "use lang()",
    "LIST": "use list() or size()",
    "NOOP": "use noop()",
    "QUIT": "use disconnect()",
    "RETR": "use retrieve() or messages()",
    "RSET": "use reset()",
    "STAT": "use stat()",
    "TOP": "use top() or headers()",
    "UIDL": "use uidl() or uid()",
    "UTF8": "call connect() with utf8=True",
}
"""What to do instead of sending a command by hand that has a method, that changes the
state of the session, or that carries a secret."""


class _Extension(Command[T_co]):
    """A command that this library does not know."""

    __slots__ = ("_line", "verb")

    def __init__(self, verb: str, *arguments: str) -> None:
        if not isinstance(verb, str) or re.match(_VERB, verb) is None:
            raise UsageError(
                "the verb of a command must be a str of ASCII characters without a "
                f"space, not {_brief(verb):.80}"
            )
        self.verb = verb.upper()
        if self.verb in _REMEDIES:
            raise UsageError(
                "it cannot be sent by command()",
                verb=self.verb,
                remedy=Remedy(_REMEDIES[self.verb]),
            )
        for position, argument in enumerate(arguments, 1):
            check_text(f"argument {position}", argument, self.verb)
        self._line: Final = command_line(verb, *arguments)

    def line(self) -> bytes:
        """Return the line to send, with the verb as it was given."""
        return self._line


class Custom(_Extension[str]):
    """A command of an extension whose reply is a status line."""

    __slots__ = ()

    def parse(self, status: Status) -> str:
        """Return the text, printable."""
        return printable(status.text)


class CustomBody(_Extension[bytes]):
    """A command of an extension whose reply has a body."""

    __slots__ = ()

    shape = Shape.BODY
    verbatim = True
