"""
The dialogue with an HTTP proxy (CONNECT, RFC 9110 section 9.3.6), without I/O.

The proxy is given the name of the server and looks it up.  ``h11`` writes the request
and reads the reply.  Texts of the proxy are not shown: they may repeat the password.
"""

from __future__ import annotations

from http import HTTPStatus

import h11

from ..address import ServerAddress
from ..errors import ConnectError
from ..proxy import ProxyAddress
from ..redaction import SecretBytes, printable
from ..remedies import Option, Remedy
from .tunnel import CHECK_LOGIN, CHECK_PROXY, CHECK_SERVER

__all__ = ["HTTPConnectDialogue"]

MAX_REPLY = 16 * 1024
"""Bytes of the headers of a reply, with those of interim replies (100 to 199): HTTP
clients accept 8 KiB to 64 KiB, and proxies send a few hundred bytes."""

_BEGINNING = b"HTTP/"

_GIVE_LOGIN = Remedy(
    "give a user name and password in {}, as in 'http://user:password@host:3128'",
    (Option("proxy"),),
)
_NEED_BASIC = Remedy("give a proxy that accepts Basic in {}", (Option("proxy"),))


class HTTPConnectDialogue:
    """
    The client's side of the dialogue with a proxy, without I/O.

    :param target: the server to connect to.
    :ivar rest: what the server itself has sent; ``None`` until the proxy has connected.
    """

    def __init__(self, proxy: ProxyAddress, target: ServerAddress) -> None:
        self._proxy = proxy
        self._target = target
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_REPLY)
        self._beginning = b""
        self._received = 0
        self._sent = False
        self.rest: bytes | None = None

    @property
    def unanswered(self) -> str:
        """What the proxy has not done yet."""
        undone = "was not reached"
        if self._sent:
            undone = f"did not answer the request to connect to {self._target}"
        return f"the proxy {self._proxy} {undone}"

    def start(self) -> bytes:
        """Return the request, with the login if the URL of the proxy has one."""
        self._sent = True
        where = str(self._target)
        headers = [(b"Host", where.encode("ascii"))]
        if self._proxy.basic is not None:
            # At once, as curl does: the proxy of a company asks for it anyway, and may
            # close the connection with its refusal.
            headers.append((b"Proxy-Authorization", b"Basic " + self._proxy.basic))
        request = h11.Request(method="CONNECT", target=where, headers=headers)
        sent = self._http.send(request)
        end = self._http.send(h11.EndOfMessage())
        return SecretBytes((sent or b"") + (end or b""))

    def receive(self, data: bytes) -> bytes:
        """
        Read a chunk, and return what to send: nothing.

        :raises ConnectError: the proxy refuses, or this is not HTTP.
        """
        self._check_beginning(data)
        self._received += len(data)
        problem = ""
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._http.next_event()
        except h11.RemoteProtocolError:
            # Its text repeats what was received.
            problem = "its reply is not valid HTTP"
        if not problem and isinstance(event, h11.Response):
            self._conclude(event)
        elif self._received > MAX_REPLY:
            # h11 limits each reply, and not their number.
            problem = f"its reply has more than {MAX_REPLY // 1024} KiB of headers"
        if problem:
            raise ConnectError(f"{self.unanswered}: {problem}", remedy=CHECK_PROXY)
        return b""

    def _check_beginning(self, data: bytes) -> None:
        """Recognise another protocol at its first byte; it may send no line at all."""
        missing = len(_BEGINNING) - len(self._beginning)
        self._beginning += data[:missing]
        if not _BEGINNING.startswith(self._beginning):
            # One byte only: it may repeat a password.
            raise ConnectError(
                f"{self.unanswered}: what it sent is not HTTP, it begins with "
                f"'{printable(self._beginning[:1])}'",
                remedy=CHECK_PROXY,
            )

    def _conclude(self, reply: h11.Response) -> None:
        """
        Act on the reply.

        A 2xx reply has no body: what follows its header is the server's, whatever
        Content-Length says (RFC 9110 section 9.3.6).
        """
        status = reply.status_code
        if 200 <= status < 300:
            self.rest, _ = self._http.trailing_data
        elif status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise self._login_refused(reply)
        else:
            raise self._refused(
                f"could not connect to {self._target}: {_meaning(status)}", status
            )

    def _login_refused(self, reply: h11.Response) -> ConnectError:
        status = reply.status_code
        methods = [
            value for name, value in reply.headers if name == b"proxy-authenticate"
        ]
        # Several may stand in one line, separated by commas.
        if methods and b"basic" not in b" ".join(methods).lower():
            return self._refused(
                "does not accept the login method Basic, the only one that is "
                "supported with HTTP proxies",
                status,
                _NEED_BASIC,
            )
        if self._proxy.credentials is None:
            return self._refused("wants a login", status, _GIVE_LOGIN)
        return self._refused("refused the user name and password", status, CHECK_LOGIN)

    def _refused(
        self, what: str, status: int, remedy: Remedy = CHECK_SERVER
    ) -> ConnectError:
        return ConnectError(
            f"the proxy {self._proxy} {what} (HTTP status {status})", remedy=remedy
        )


def _meaning(status: int) -> str:
    """Return the meaning of a status (RFC 9110 section 15)."""
    if 300 <= status < 400:
        return "it redirects, which is not followed"
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "of unknown meaning"
