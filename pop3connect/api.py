"""
``connect()``: one call that opens a session.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from .address import Secure
from .auth.account import Password
from .connector import Connector
from .errors import POP3Error
from .handle import Handle
from .redaction import StatusProcedure, hidden
from .sansio.readers import MAX_LISTING

if TYPE_CHECKING:
    from twisted.mail.interfaces import IClientAuthentication

    from .events import EventProcedure
    from .tls.client_key import ClientCertificate
    from .tls.options import TLSOptions
    from .tls.trust import CACerts

__all__ = ["connect"]

MAX_CONNECTORS = 32
"""Connectors that are kept behind `connect`, the latest ones: each may hold a store of
certificates.  A program that connects to more servers keeps `Connector` objects."""

_connectors: OrderedDict[tuple[Any, ...], Connector] = OrderedDict()


def connect(
    server: str,
    username: str,
    password: Password,
    stsproc: StatusProcedure | None = None,
    secure: int | Secure = Secure.NONE,
    verify: bool = True,
    *,
    cacerts: CACerts | None = None,
    system_trust: bool = False,
    reactor: IReactorTime | None = None,
    endpoint: IStreamClientEndpoint | str | None = None,
    auth: str | IClientAuthentication = "auto",
    timeout: float = 60.0,
    connect_timeout: float = 30.0,
    max_message_size: int | None = None,
    max_listing: int = MAX_LISTING,
    pipeline: bool = True,
    client_certificate: ClientCertificate | None = None,
    allow_cleartext: bool = True,
    utf8: bool = False,
    capa: bool = True,
    tls: TLSOptions | None = None,
    pins: Sequence[str] | None = None,
    proxy: str | None = None,
    authorize_as: str | None = None,
    events: EventProcedure | None = None,
) -> Deferred[Handle]:
    """
    Open a POP3 session and log in.

    :param server: ``"host"``, ``"host:port"``, an IP address, or
        ``"[IPv6 address]:port"``.  Port 110, or 995 with `Secure.TLS`.
    :param username: the name of the account, as the server knows it; many providers
        want the whole mail address.
    :param password: the password, or a callable that returns it, a Deferred of it, or
        a coroutine; called when the password is needed.
    :param stsproc: called with each protocol message, secrets masked.  ``None`` and
        ``""`` mean none.
    :param secure: plain, TLS at once, or STLS before the login (RFC 2595).  With
        STLS there is no fallback to plain text.
    :param verify: whether the server has to prove its identity.  If false, TLS still
        encrypts, but to any machine that answers.
    :param cacerts: the folder or file with the certificates to trust, the contents of
        such a file as bytes, or a trust root of Twisted; default: the folder or file in
        the environment variable ``POP3CONNECT_CACERTS``, else the platform's store.
    :param system_trust: with ``cacerts``: trust the platform's store as well.
    :param reactor: default: the global one.  With an ``endpoint``, a
        `twisted.internet.task.Clock` suffices; without, the reactor also has to provide
        ``IReactorTCP``, and ``IReactorPluggableNameResolver`` for a host name.
    :param endpoint: used instead of TCP to ``server``: a tunnel, a UNIX socket.  It may
        be a description such as ``"unix:/run/pop3.sock"``, see
        `twisted.internet.endpoints.clientFromString`.  The server still has to prove
        that it is ``server``.
    :param auth: ``"auto"``, ``"USER"``, ``"APOP"``, the name of a SASL mechanism, or
        your own mechanism, a `twisted.mail.interfaces.IClientAuthentication`.
    :param timeout: seconds for the greeting and for each reply.
    :param connect_timeout: seconds for looking up the name and connecting, and
        again for the TLS handshake.
    :param max_message_size: bytes; a longer message ends the session.
    :param max_listing: rows; a longer LIST or UIDL ends the session.
    :param pipeline: ``False``: send one command at a time, whatever the server offers.
    :param client_certificate: a PEM file with certificate and key, a pair of
        files, or a `twisted.internet.ssl.PrivateCertificate`.
    :param allow_cleartext: ``False``: a password is never sent without TLS.
    :param utf8: ask for UTF-8 mode (RFC 6856) before the login.
    :param capa: ``False``: do not send CAPA; some servers close the connection at it.
        Then nothing is pipelined, and USER is used unless ``auth`` says otherwise.
    :param tls: a `TLSOptions`: versions, ciphers, the client key's password, a CRL.
    :param pins: hashes of the server's public key, ``"sha256//BASE64"``, of which one
        must match: in addition to the certificate's chain and name, or, with
        ``verify=False``, instead of them.
    :param proxy: a SOCKS5 proxy, ``"socks5://user:password@host:1080"``, or an HTTP
        proxy, ``"http://user:password@host:3128"``, which also looks up the server's
        name.  It needs ``pip install 'pop3connect[proxy]'``.
    :param authorize_as: whose mailbox to open with the name and password of another
        user, such as a master user.
    :param events: called with each event of a session, see `pop3connect.events`; for
        metrics and traces.  It must not block.
    :return: fires with the `Handle`.  Cancelling it closes what was opened.

    A coroutine that asyncio runs cannot await the result; asyncio raises
    ``RuntimeError: Task got bad yield: <Deferred ...>``.  With Twisted's asyncio
    reactor, await ``Deferred.fromCoroutine(work()).asFuture(loop)`` instead, where
    ``work`` is the coroutine function that uses the session.

    It fails with `UsageError` (an argument; nothing was sent), `ConnectError`,
    `TimedOutError`, `TLSError` and its kinds `VerificationError` and
    `STLSUnavailableError`, `LoginError`, `ConnectionLostError`, `ProtocolError`.
    """
    password = hidden(password)
    # It may hold a password as well.
    proxy = hidden(proxy)
    try:
        connector = _connector(
            server,
            secure=secure,
            verify=verify,
            cacerts=cacerts,
            system_trust=system_trust,
            reactor=reactor,
            endpoint=endpoint,
            auth=auth,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_message_size=max_message_size,
            max_listing=max_listing,
            pipeline=pipeline,
            client_certificate=client_certificate,
            allow_cleartext=allow_cleartext,
            utf8=utf8,
            capa=capa,
            tls=tls,
            pins=_values(pins),
            proxy=proxy,
        )
    except POP3Error as error:
        # The local variables in a traceback would show the password.
        return fail(error.with_traceback(None))
    # Given to the session, not to its connector: they may differ each time.
    return connector.connect(
        username, password, stsproc, authorize_as=authorize_as, events=events
    )


def _values(pins: Any) -> Any:
    """
    Return pins by which a connector is found, whatever object they were given in.

    The connector does not keep that object, so its identity means nothing.
    """
    if isinstance(pins, Iterable) and not isinstance(pins, (str, bytes)):
        return tuple(pins)
    return pins


def _connector(server: str, **options: Any) -> Connector:
    """Return the connector for these options, made before or now."""
    key = (
        _key(server),
        _path_key(os.environ.get("POP3CONNECT_CACERTS")),
        *(
            # Quick for most options, which have their default: this runs each time.
            value
            if value is None or value is True or value is False
            else _path_key(value)
            if name in _PATHS
            else _key(value)
            for name, value in options.items()
        ),
    )
    connector = _connectors.get(key)
    if connector is None:
        connector = _connectors[key] = Connector(server, **options)
        if len(_connectors) > MAX_CONNECTORS:
            _connectors.popitem(last=False)
    _connectors.move_to_end(key)
    return connector


_PATHS = ("cacerts", "client_certificate")
"""Options that may be paths."""


def _path_key(value: object) -> tuple[type, object]:
    """Return the key of an option that may be a path: a str and a Path are one."""
    if isinstance(value, tuple):
        return tuple, tuple(map(_path_key, value))
    if isinstance(value, (str, os.PathLike)):
        value = os.fspath(value)
        if isinstance(value, str) and value and not os.path.isabs(value):
            # The same words name another file after a change of directory.
            return tuple, (_working_directory(), value)
    return _key(value)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        # It was removed.
        return None


def _key(value: object) -> tuple[type, object]:
    """Return the key of an option: simple values count as such, objects by identity."""
    if isinstance(value, (str, int, float, bytes, type(None))):
        return type(value), value
    if isinstance(value, tuple):
        return tuple, tuple(map(_key, value))
    from .tls.options import TLSOptions

    if isinstance(value, TLSOptions):
        return TLSOptions, value
    # The connector keeps the object, so that no other can take its place.
    return type(value), id(value)
