"""
What must hold for any octets that a server sends.

The first octet of an input says for which part of the client the others are.  `check`
raises if something does not hold.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from pop3connect.auth.sasl import (
    MECHANISMS,
    Credentials,
    SASLError,
    UnusableError,
    apop_challenge,
    decode_challenge,
    make_mechanism,
)
from pop3connect.redaction import Secret, Transcript
from pop3connect.sansio.commands import (
    Auth,
    Capa,
    Command,
    Dele,
    List,
    Noop,
    Retrieve,
    StatCommand,
    Stls,
    Top,
    Uidl,
)
from pop3connect.sansio.multiline import MultilineDecoder, decode_whole
from pop3connect.sansio.readers import (
    MAX_CAPABILITIES,
    MAX_ROW,
    CapabilityReader,
    LanguageReader,
    ListingReader,
    Reader,
    TooLargeError,
    UIDReader,
)
from pop3connect.sansio.replies import (
    BadReplyError,
    parse_challenge,
    parse_one_listing,
    parse_one_uid,
    parse_stat,
    parse_status,
)
from tests.sansio.reference import plain
from tests.sansio.sessions import Action, Script, difference

__all__ = ["CORPUS", "PARTS", "check"]

CORPUS = Path(__file__).parent / "corpus"

SECRET = "correct horse"


def _status(data: bytes) -> None:
    status = parse_status(data)
    if status is None:
        return
    assert data[:3] in (b"+OK", b"-ER", b"+ER"), data
    assert status.ok is (data[:3] == b"+OK")
    assert status.text in data
    assert not status.challenge
    if status.code is not None:
        assert not status.ok
        assert status.code.isascii()
        assert status.code == status.code.upper()
        assert status.code.encode() in data.upper()


def _continuation(data: bytes) -> None:
    status = parse_challenge(data)
    if status is not None:
        assert status.challenge
        assert status.ok
        assert status.text in data
    challenge = decode_challenge(data)
    try:
        strict: bytes | None = base64.b64decode(data, validate=True)
    except binascii.Error:
        strict = None
    if challenge is not None:
        assert challenge == strict
    elif strict is not None:
        # Python takes pads where RFC 5034 has none.
        assert base64.b64encode(strict) != data


def _stat(data: bytes) -> None:
    try:
        stat = parse_stat(data)
    except BadReplyError as error:
        assert str(error).isprintable()
        return
    assert stat.count >= 0
    assert stat.size >= 0
    assert str(stat.count).encode() in data


def _read(make: Callable[[], Reader[Any]], data: bytes) -> Any:
    """
    Read a listing as a whole, and in pieces: it comes to the same.
    """
    outcomes: list[tuple[Any, str]] = []
    for size in (len(data), data[0] % 32 + 1):
        reader = make()
        try:
            for at in range(1, len(data), size):
                reader.feed(data[at : at + size])
            outcomes.append((reader.finish(), ""))
        except (BadReplyError, TooLargeError) as error:
            assert str(error).isprintable()
            assert len(str(error)) < 1000
            outcomes.append((None, f"{type(error).__name__}: {error}"))
    assert outcomes[0] == outcomes[1], outcomes
    return outcomes[0][0]


def _rows(
    make: Callable[[], Reader[list[Any]]], one: Callable[[bytes], Any], data: bytes
) -> list[Any]:
    """
    Read a listing as a whole, and line by line: it comes to the same.
    """
    rows = _read(make, data)
    if rows is None:
        return []
    singly = [one(line) for line in data[1:].split(b"\r\n") if line.strip()]
    assert rows == list(dict.fromkeys(singly)), data
    assert len({row[0] for row in rows}) == len(rows)
    assert all(row[0] > 0 for row in rows)
    return list(rows)


def _listing(data: bytes) -> None:
    for row in _rows(lambda: ListingReader(1000), parse_one_listing, data):
        assert row.size >= 0


def _uids(data: bytes) -> None:
    for row in _rows(lambda: UIDReader(1000), parse_one_uid, data):
        assert row.uid.encode("ascii", "surrogateescape") in data


def _capabilities(data: bytes) -> None:
    capabilities = _read(CapabilityReader, data)
    if capabilities is None:
        lines = data[1:].split(b"\r\n")
        assert len(lines) > MAX_CAPABILITIES or max(map(len, lines)) > MAX_ROW - 2
        return
    assert capabilities.known
    assert len(capabilities) <= MAX_CAPABILITIES
    for tag, words in capabilities.items():
        assert tag == tag.upper()
        assert tag in capabilities
        assert all(text.isprintable() for text in (tag, *words))
    assert all(name == name.upper() for name in capabilities.sasl)
    for days in (capabilities.login_delay, capabilities.expire):
        assert days is None or days >= 0


def _languages(data: bytes) -> None:
    for tag, name in (_read(LanguageReader, data) or {}).items():
        assert tag
        assert f"{tag}{name}".isprintable()


_COMMANDS: list[list[Command[Any]]] = [
    [Retrieve(1), Retrieve(2), Dele(1), Retrieve(3)],
    [StatCommand(), List(), Uidl(), Top(1)],
    [Retrieve(1), Noop(), Retrieve(2), Noop(), List()],
    [Capa(), Noop(), Capa()],
    [Auth("PLAIN"), Capa(), Stls(), Capa()],
]


def _dialogue(data: bytes) -> None:
    """
    Read a session in chunks of several sizes, and compare it with the slow reference.

    The first octet says which commands, and in which of eight ways.
    """
    commands = _COMMANDS[data[0] % len(_COMMANDS)]
    ways = data[0] // len(_COMMANDS)
    what = "ask with a sink" if ways & 4 else "ask"
    script = Script(
        [Action(what if each.verbatim else "ask", each) for each in commands],
        stream=data[1:],
        logged_in=not any(isinstance(each, Auth) for each in commands),
        pipelining=not ways & 2,
        listening=bool(ways & 4),
        max_message_size=5000 if ways & 1 else None,
        max_listing=100,
    )
    for size in (0, 1, 7):
        differs = difference(script._replace(sizes=(size,)))
        assert differs is None, (size, differs)


def _body(data: bytes) -> None:
    """
    Decode a body however it is cut, with and without its status line before it.

    The first octet says where.
    """
    size, before = data[0] % 16 or 10_000, data[0] // 16
    wire = data[1:]
    start = 0
    if before:
        wire = b"+OK" + b" " * before + b"\r\n" + wire
        start = before + 5
    meant = plain(wire, start)
    if before:
        assert decode_whole(wire, start) in (meant, None)
    decoder, pieces = MultilineDecoder(), list[bytes]()
    decoder.begin(pieces.append)
    ended = -1
    # The first chunk has the status line in it, and ends where it ends at the least.
    chunks = [wire[: start + size]]
    chunks += [wire[at : at + size] for at in range(start + size, len(wire), size)]
    before = 0
    for number, chunk in enumerate(chunks):
        end = decoder.feed(chunk, 0 if number else start)
        if end >= 0:
            ended = before + end
            break
        before += len(chunk)
    body = b"".join(pieces)
    assert decoder.octets == len(body)
    if meant[1] is None:
        assert ended < 0
    else:
        assert (body, ended) == meant


def _mechanism(data: bytes) -> None:
    """
    Go through a login, a challenge a line; the first octet says in which way.
    """
    names = sorted(MECHANISMS)
    credentials = Credentials(
        "ada",
        Secret(SECRET),
        host="pop.example.com",
        port=995,
        binding=("tls-exporter", bytes(32)),
        nonce="fyko+d2lbbFgONRv9qkxdawL",
    )
    name = names[data[0] % len(names)]
    mechanism = make_mechanism(name, credentials)
    mechanism.initial()
    transcript = Transcript(None, Logger())
    transcript.keep_secret(SECRET.encode())
    for challenge in data[1:].split(b"\n")[:16]:
        try:
            response = mechanism.respond(challenge)
        except (SASLError, UnusableError) as error:
            assert SECRET not in str(error)
            assert str(error).isprintable()
            break
        assert isinstance(response, bytes)
        assert mechanism.gives_up(challenge) in (True, False)
        for text in mechanism.failure().values():
            shown = transcript.clean(text.encode())
            assert SECRET not in shown
            assert shown.isprintable()
    if name.startswith("SCRAM"):
        # Nobody here knows the password, so nobody has proven that he does.
        try:
            mechanism.finish()
        except SASLError:
            return
        raise AssertionError("a server that proved nothing was believed")


def _text(data: bytes) -> None:
    """
    Show a text in which a secret stands somewhere.
    """
    transcript = Transcript(None, Logger())
    transcript.keep_secret(SECRET.encode())
    at = data[0] * 4
    text = data[1 : 1 + at] + SECRET.encode() + data[1 + at :]
    # Escaping can put letters before others, so it is asked before.
    assert SECRET.encode() not in transcript.mask(text)
    shown = transcript.clean(text)
    assert shown.isprintable()
    assert len(shown) < 5000
    apop_challenge(data)


PARTS: dict[bytes, Callable[[bytes], None]] = {
    b"s": _status,
    b"+": _continuation,
    b"t": _stat,
    b"l": _listing,
    b"u": _uids,
    b"c": _capabilities,
    b"g": _languages,
    b"b": _body,
    b"m": _mechanism,
    b"x": _text,
    b"d": _dialogue,
}
"""What the first octet stands for."""


def check(data: bytes) -> None:
    """
    Give an input to the part that it is for.
    """
    part = PARTS.get(data[:1])
    if part is None:
        part = list(PARTS.values())[sum(data[:1]) % len(PARTS)]
    if len(data) > 1:
        part(data[1:])
