"""
TLS for one server: contexts that are shared, a check that fails closed.

One context serves all connections with the same trust, so that a thousand of
them don't read the certificates a thousand times.  What each connection has to
prove is the business of `identity`.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union
from weakref import WeakKeyDictionary

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from ..address import ServerAddress
from ..errors import TLSError, UsageError, VerificationError
from ..remedies import Option
from ..results import TLSInfo
from .identity import IdentityCheck, tls_error
from .trust import Fingerprint, Trust, facts

if TYPE_CHECKING:
    from twisted.internet.ssl import PrivateCertificate
    from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = [
    "ClientCertificate",
    "ClientContext",
    "ConnectionCreator",
    "ContextKeeper",
    "hand_over",
]

log = Logger()

_Path = Union[str, "os.PathLike[str]"]
ClientCertificate = Union[_Path, "tuple[_Path, _Path]", "PrivateCertificate"]
"""A PEM file with certificate chain and key, a file for each, or Twisted's own."""

# Those of Python's own ssl module: forward secrecy, AEAD or AES, nothing with
# SHA-1; at least 112 bits for keys and signatures, in certificates too.
_CIPHERS = (
    b"@SECLEVEL=2:ECDH+AESGCM:ECDH+CHACHA20:ECDH+AES:DHE+AES:"
    b"!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
)

SESSION_SECONDS = 3600.0
"""How long a TLS session may be resumed.  During this time a change of the server's
certificate, or of the platform's store, may go unnoticed."""

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

    :param trust: which certificates to trust; ``None``: encrypt, and check nothing.
    """

    def __init__(
        self, trust: Trust | None, certificate: ClientCertificate | None = None
    ) -> None:
        self.trust = trust
        self._certificate = certificate
        # Kept here, by connection: Twisted has its own use for the app data.
        self._checks: WeakKeyDictionary[SSL.Connection, IdentityCheck] = (
            WeakKeyDictionary()
        )
        self._sessions: OrderedDict[ServerAddress, _Resumable] = OrderedDict()
        self._habits: OrderedDict[ServerAddress, _Habits] = OrderedDict()
        # What an error says of the folder's files that are not in the store.
        self._unusable: tuple[str, ...] = ()
        self._context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)  # RFC 8997
        context.set_cipher_list(_CIPHERS)
        context.set_options(SSL.OP_NO_COMPRESSION)
        context.set_options(getattr(SSL, "OP_NO_RENEGOTIATION", 0))
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        if certificate is not None:
            _use_certificate(context, certificate)
        if trust is None:
            context.set_verify(SSL.VERIFY_NONE)
            return
        self._unusable = tuple(trust.load_into(context))
        for warning in self._unusable:
            log.warn("cacerts: {text}", text=warning)
        store = context.get_cert_store()
        assert store is not None
        # As Python's own ssl does since 3.13.  Any certificate in the folder is
        # trusted, not only a root.
        store.set_flags(
            crypto.X509StoreFlags.X509_STRICT | crypto.X509StoreFlags.PARTIAL_CHAIN
        )
        context.set_verify(SSL.VERIFY_PEER, self._verify)

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
        if self.trust is None:
            return connection, None
        check = self._checks[connection] = IdentityCheck(
            server, self.trust, self._unusable
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

    :param trust: which certificates to trust; ``None``: encrypt, and check nothing.
    """

    def __init__(
        self, trust: Trust | None, certificate: ClientCertificate | None = None
    ) -> None:
        self._trust = trust
        self._certificate = certificate
        self._known: tuple[Fingerprint, ClientContext] | None = None

    def current(self) -> ClientContext:
        """
        Return the context.

        :raises UsageError: the client certificate cannot be used.
        :raises TLSError: the cacerts folder cannot be used.
        """
        certificate = _file_facts(self._certificate)
        fingerprint = (self._trust.fingerprint() if self._trust else ()) + certificate
        if self._known is None or self._known[0] != fingerprint:
            context = ClientContext(self._trust, self._certificate)
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
            return tls_error(reason, str(self._server))
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
        return TLSInfo(
            version=self._connection.get_protocol_version_name(),
            cipher=self._connection.get_cipher_name() or "",
            verified=self._check is not None,
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
        """See that no later connection to this server offers a session."""
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


# -- client certificates


def _file_facts(certificate: ClientCertificate | None) -> Fingerprint:
    known: list[object] = []
    for path in _paths(certificate):
        try:
            about = os.stat(path)
        except (OSError, ValueError) as error:
            raise UsageError(
                f": {path!r} cannot be read: {error}",
                option=Option("client_certificate"),
            ) from error
        known.append(facts(about))
    return tuple(known)


def _paths(certificate: ClientCertificate | None) -> tuple[_Path, ...]:
    if isinstance(certificate, (str, os.PathLike)):
        return (certificate,)
    if not isinstance(certificate, tuple):
        return ()
    if len(certificate) != 2 or not all(
        isinstance(path, (str, os.PathLike)) for path in certificate
    ):
        raise _unusable()
    return certificate


def _unusable(paths: tuple[_Path, ...] = ()) -> UsageError:
    which = ", ".join(repr(os.fspath(path)) for path in paths)
    return UsageError(
        (f": {which} cannot be used" if which else " cannot be used")
        + ": give a PEM file with the certificate and its key, a pair of such files, "
        "or a PrivateCertificate of Twisted; the key must be that of the certificate, "
        "and not encrypted",
        option=Option("client_certificate"),
    )


_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)
"""A private key of any kind; with a label for those that are encrypted."""


def _use_certificate(context: SSL.Context, certificate: ClientCertificate) -> None:
    paths = _paths(certificate)
    try:
        (own, *chain), key = _load(paths) if paths else _unwrap(certificate)
        hand_over(context.use_certificate, own)
        for above in chain:
            hand_over(context.add_extra_chain_cert, above)
        hand_over(context.use_privatekey, key)
        context.check_privatekey()
    except Exception as error:  # noqa: BLE001 - cryptography raises many types
        # The local variables of its traceback would show the key.
        raise _unusable(paths) from error.with_traceback(None)


def _load(paths: tuple[_Path, ...]) -> tuple[list[x509.Certificate], Any]:
    # OpenSSL would ask for the passphrase of an encrypted key on the terminal.
    chain = x509.load_pem_x509_certificates(Path(paths[0]).read_bytes())
    found = _KEY.search(Path(paths[-1]).read_bytes())
    if found is None:
        raise ValueError("there is no private key")
    return chain, load_pem_private_key(found[0], None)


def _unwrap(certificate: Any) -> tuple[list[x509.Certificate], Any]:
    own = certificate.original.to_cryptography()
    return [own], certificate.privateKey.original.to_cryptography_key()


def hand_over(use: Callable[[Any], object], value: Any) -> None:
    """
    Give a certificate or key of cryptography to a method of pyOpenSSL.

    Since release 24.3 pyOpenSSL takes it as it is, and deprecates its own types;
    before, it took nothing else.
    """
    try:
        use(value)
    except TypeError:
        wrap = (
            crypto.X509.from_cryptography
            if isinstance(value, x509.Certificate)
            else crypto.PKey.from_cryptography_key
        )
        use(wrap(value))
