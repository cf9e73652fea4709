"""
TLS for one server: contexts that are shared, a check that fails closed.

One context serves all connections with the same trust, so that a thousand of
them don't read the certificates a thousand times.  The module `identity` decides what
each connection has to prove.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import attrs
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from ..address import ServerAddress
from ..errors import TLSError, UsageError, VerificationError
from ..remedies import Option
from ..results import TLSInfo
from .client_key import ClientCertificate, file_facts, use_certificate
from .identity import IdentityCheck, tls_error
from .options import TLSOptions
from .revocation import crl_facts, use_crl
from .trust import Fingerprint, Trust

if TYPE_CHECKING:
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["ClientContext", "ConnectionCreator", "ContextKeeper"]

log = Logger()

# Those of Python's own ssl module: forward secrecy, AEAD or AES, nothing with
# SHA-1; at least 112 bits for keys and signatures, in certificates too.
_CIPHERS = "@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:!aDSS:!SHA1:!AESCCM"

_NEVER = "!aNULL:!eNULL"
"""Suites without a certificate, and those without encryption."""

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

SESSION_SECONDS = 3600.0
"""Seconds for which a TLS session may be resumed.  During this time a change of the
server's certificate, or of the platform's store, may go unnoticed."""

_MAX_SESSIONS = 256
"""TLS sessions that are kept for each context, the latest ones."""

_MAX_HABITS = 1024
"""Servers of which a context remembers how to log in, the latest ones."""


@attrs.frozen
class _Resumable:
    """A session with a server that has proven its identity, and when it expires."""

    session: SSL.Session
    not_after: float


@attrs.define
class _Habits:
    """
    What past connections have shown of a server; it changes no more than an order.

    :ivar resumes: whether a session may be offered to it.
    :ivar binding: the type of channel binding that worked in the last login.
    """

    resumes: bool = True
    binding: str | None = None


class ClientContext:
    """
    An OpenSSL context for one trust, shared by all its connections.

    It keeps the TLS sessions of servers that have proven their identity, so that the
    next connection to such a server can resume one.  A context for another trust, or
    for the same folder after a change, has none of them.

    :param trust: which certificates to trust; ``None``: the chain and the name are not
        checked.
    :param pins: the server's key must have one of these; none: any key will do.
    :raises UsageError: the certificate or an option cannot be used.
    :raises TLSError: the certificates to trust cannot be used.
    """

    def __init__(
        self,
        trust: Trust | None,
        certificate: ClientCertificate | None = None,
        options: TLSOptions = TLSOptions(),  # noqa: B008 - it is frozen
        pins: tuple[str, ...] = (),
    ) -> None:
        self.trust = trust
        self.options = options
        self.pins = pins
        # Kept here, by connection: Twisted has its own use for the app data.
        self._checks: WeakKeyDictionary[SSL.Connection, IdentityCheck] = (
            WeakKeyDictionary()
        )
        self._sessions: OrderedDict[ServerAddress, _Resumable] = OrderedDict()
        self._habits: OrderedDict[ServerAddress, _Habits] = OrderedDict()
        # What an error says of the folder's files that are not in the store.
        self._unusable: tuple[str, ...] = ()
        self._context = context = self._make_context()
        context.set_min_proto_version(_VERSIONS[options.minimum_version])
        _use_ciphers(context, options.ciphers)
        context.set_options(SSL.OP_NO_COMPRESSION)
        context.set_options(getattr(SSL, "OP_NO_RENEGOTIATION", 0))
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        if certificate is not None or options.client_key_password is not None:
            use_certificate(context, certificate, options.client_key_password)
        if trust is None and not pins:
            context.set_verify(SSL.VERIFY_NONE)
        else:
            context.set_verify(SSL.VERIFY_PEER, self._verify)

    def _make_context(self) -> SSL.Context:
        """Make a context whose store has the trusted certificates and the CRLs."""
        if self.trust is None:
            return SSL.Context(SSL.TLS_CLIENT_METHOD)
        context, warnings = self.trust.make_context()
        self._unusable = tuple(warnings)
        for warning in warnings:
            log.warn("cacerts: {text}", text=warning)
        store = context.get_cert_store()
        assert store is not None
        # As Python's own ssl does since 3.13.  Any certificate of the source is
        # trusted, not only a root.
        store.set_flags(
            crypto.X509StoreFlags.X509_STRICT | crypto.X509StoreFlags.PARTIAL_CHAIN
        )
        if self.options.crl is not None:
            use_crl(store, self.options.crl)
        return context

    def creator(self, server: ServerAddress) -> ConnectionCreator:
        """Return what makes the TLS connection of one session."""
        return ConnectionCreator(self, server)

    def connection(
        self, server: ServerAddress
    ) -> tuple[SSL.Connection, IdentityCheck | None]:
        """Make a connection, and the object that holds the result of its check."""
        connection = SSL.Connection(self._context, None)
        if not server.is_ip:
            # RFC 6066 section 3: names only.
            connection.set_tlsext_host_name(server.host.encode("ascii"))
        if self.trust is None and not self.pins:
            return connection, None
        check = self._checks[connection] = IdentityCheck(
            server, self.trust, self._unusable, self.pins, self.options.crl
        )
        return connection, check

    def resumable(self, server: ServerAddress) -> _Resumable | None:
        """Return the session to resume with a server, if there is one."""
        known = self._sessions.get(server)
        if known is None or known.not_after > time.time():
            return known
        del self._sessions[server]
        return None

    def known_binding(self, server: ServerAddress) -> str | None:
        """Return the type of channel binding that worked with a server before."""
        habits = self._habits.get(server)
        return None if habits is None else habits.binding

    def bound_by(self, server: ServerAddress, kind: str | None) -> None:
        """Remember the type of channel binding that works with a server."""
        self._change(server).binding = kind

    def _change(self, server: ServerAddress) -> _Habits:
        habits = self._habits.setdefault(server, _Habits())
        self._habits.move_to_end(server)
        if len(self._habits) > _MAX_HABITS:
            self._habits.popitem(last=False)
        return habits

    def forget(self, server: ServerAddress) -> None:
        """Drop the session with this server."""
        self._sessions.pop(server, None)

    def never_resume(self, server: ServerAddress) -> None:
        """Offer no session to this server again."""
        self._change(server).resumes = False
        self.forget(server)

    def remember(self, server: ServerAddress, resumable: _Resumable) -> None:
        """Keep a session with a server that has proven its identity."""
        habits = self._habits.get(server)
        if habits is not None and not habits.resumes:
            return
        self._sessions[server] = resumable
        self._sessions.move_to_end(server)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def _verify(
        self,
        connection: SSL.Connection,
        certificate: crypto.X509,
        errno: int,
        depth: int,
        ok: int,
    ) -> bool:
        """Judge one certificate of the chain; the server's own comes last."""
        check = self._checks.get(connection)
        if check is None:
            return False
        return check.judge(certificate, errno, depth, bool(ok))


class ContextKeeper:
    """
    Keeps the context for a trust and a certificate, and makes a new one after a change.

    The parameters are those of `ClientContext`.
    """

    def __init__(
        self,
        trust: Trust | None,
        certificate: ClientCertificate | None = None,
        options: TLSOptions = TLSOptions(),  # noqa: B008 - it is frozen
        pins: tuple[str, ...] = (),
    ) -> None:
        self._trust = trust
        self._certificate = certificate
        self._options = options
        self._pins = pins
        self._known: tuple[Fingerprint, ClientContext] | None = None

    def current(self) -> ClientContext:
        """
        Return the context.

        :raises UsageError: the client certificate or an option cannot be used.
        :raises TLSError: the certificates to trust cannot be used.
        """
        fingerprint = (
            self._trust.fingerprint() if self._trust else (),
            file_facts(self._certificate),
            crl_facts(self._options.crl),
        )
        if self._known is None or self._known[0] != fingerprint:
            context = ClientContext(
                self._trust, self._certificate, self._options, self._pins
            )
            self._known = (fingerprint, context)
        return self._known[1]


@implementer(IOpenSSLClientConnectionCreator)
class ConnectionCreator:
    """Makes the TLS connection of one session, and keeps the result of its check."""

    def __init__(self, context: ClientContext, server: ServerAddress) -> None:
        self._context = context
        self._server = server
        self._check: IdentityCheck | None = None
        self._connection: SSL.Connection | None = None
        self._resumable: _Resumable | None = None

    def clientConnectionForTLS(
        self,
        tlsProtocol: TLSMemoryBIOProtocol,
    ) -> SSL.Connection:
        """Make the connection, for Twisted."""
        self._connection, self._check = self._context.connection(self._server)
        if self._check is not None:
            self._resumable = self._context.resumable(self._server)
            if self._resumable is not None:
                self._connection.set_session(self._resumable.session)
        return self._connection

    def failure(self, reason: BaseException | None) -> TLSError | None:
        """Say why there is no TLS; ``None`` if TLS is not the reason."""
        if self._check is not None and self._check.refusal is not None:
            return self._check.refusal
        if isinstance(reason, SSL.Error):
            return tls_error(reason, str(self._server), self._context.options)
        return None

    def finish(self) -> TLSInfo:
        """
        Return what was negotiated in the handshake.

        :raises VerificationError: it is complete, but the server has proven nothing.
        """
        assert self._connection is not None
        # In a resumed session no certificate is shown: the server proves that it is
        # the one that has shown it before.  If the session is not resumed, OpenSSL asks
        # for the certificate and checks it.
        if self._check is not None and not (self._check.proven or self._resumable):
            raise VerificationError(
                "the TLS handshake ended without a proof of who the server is",
                server=str(self._server),
            )
        certificate = self._connection.get_peer_certificate()
        if self._check is not None and not self._check.proven:
            self._check.resume(certificate)
        return TLSInfo(
            version=self._connection.get_protocol_version_name(),
            cipher=self._connection.get_cipher_name() or "",
            verified=self._check is not None,
            verified_by=None if self._check is None else self._check.means,
            certificate=None if certificate is None else certificate.to_cryptography,
        )

    @property
    def resumption_failed(self) -> bool:
        """
        Whether a session was offered; asked when the handshake has failed.

        Servers that look at client certificates are known to close the connection
        then, instead of asking for a full handshake.
        """
        refused = self._check is not None and self._check.refusal is not None
        return self._resumable is not None and not refused

    def keep_no_session(self) -> None:
        """Make sure that no later connection to this server offers a session."""
        self._context.never_resume(self._server)

    def known_binding(self) -> str | None:
        """Return the type of channel binding that worked with this server before."""
        return self._context.known_binding(self._server)

    def bound_by(self, kind: str | None) -> None:
        """
        Remember the type of channel binding that worked with this server.

        :param kind: ``None`` if no binding was accepted; then the next connection
            offers no session, so that every type can be tried.
        """
        self._context.bound_by(self._server, kind)
        if kind is None:
            self._context.forget(self._server)
        elif kind == "tls-unique":
            self.keep_no_session()

    def remember(self) -> None:
        """Keep the session, to be resumed by the next connection to this server."""
        assert self._connection is not None
        session = self._connection.get_session()
        if self._check is None or session is None:
            return
        if self._check.proven:
            not_after = min(self._check.not_after, time.time() + SESSION_SECONDS)
        elif self._resumable is not None:
            # Resuming a session does not make it last longer.
            not_after = self._resumable.not_after
        else:
            return
        self._context.remember(self._server, _Resumable(session, not_after))

    def channel_bindings(self) -> tuple[tuple[str, bytes], ...]:
        """
        Return the channel bindings of the connection, by name, the best first.

        tls-exporter (RFC 9266) for TLS 1.3 only: with 1.2 it needs the extended
        master secret, and pyOpenSSL cannot tell whether that is in use.

        tls-unique (RFC 5929 section 3) is the first Finished of the handshake: the
        client's, unless a session was resumed.  OpenSSL knows whether one was, and
        pyOpenSSL does not say; so it is there only where none was offered.  Without
        resumption the Finished depends on the server's certificate, so that an
        attacker in the middle cannot have the same one on both sides, with or without
        the extended master secret (RFC 7627 section 1).  TLS 1.3 leaves tls-unique
        undefined (RFC 8446 appendix C.5); the client's Finished, which covers the whole
        handshake there too, is what Cyrus compares.
        """
        assert self._connection is not None
        bindings = []
        if self._connection.get_protocol_version() >= SSL.TLS1_3_VERSION:
            key = self._connection.export_keying_material(
                b"EXPORTER-Channel-Binding", 32, b""
            )
            bindings.append(("tls-exporter", key))
        certificate = self._connection.get_peer_certificate()
        if certificate is not None:
            end_point = _end_point(certificate)
            if end_point is not None:
                bindings.append(("tls-server-end-point", end_point))
        finished = self._connection.get_finished()
        if self._resumable is None and finished is not None:
            bindings.append(("tls-unique", finished))
        return tuple(bindings)


def _end_point(shown: crypto.X509) -> bytes | None:
    """Return the hash of a certificate that RFC 5929 section 4.1 binds to."""
    try:
        certificate = shown.to_cryptography()
        algorithm = certificate.signature_hash_algorithm
    except Exception:  # noqa: BLE001 - cryptography raises exceptions of many types
        # An algorithm that it does not know; or, where the certificate need not be
        # verified, one that OpenSSL can parse and cryptography cannot.
        return None
    if algorithm is None:
        # Ed25519 and the like: the RFC says nothing of them.
        return None
    if algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)


def _use_ciphers(context: SSL.Context, ciphers: str | None) -> None:
    try:
        context.set_cipher_list(f"{ciphers or _CIPHERS}:{_NEVER}".encode("ascii"))
    except SSL.Error as error:
        raise UsageError(
            f": {ciphers!r:.200} has no cipher suite in it that OpenSSL knows "
            "and that encrypts and authenticates; 'openssl ciphers -v' lists them",
            option=Option("ciphers"),
        ) from error
