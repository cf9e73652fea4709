"""
The dialogue from the greeting to being logged in: CAPA, STLS, authentication.

The order is the safety: no credential before TLS where TLS was asked for, and
nothing that was learnt in the clear is believed after it (RFC 2595 section 4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import iscoroutine

import attrs
from twisted.internet.defer import ensureDeferred, maybeDeferred
from twisted.logger import Logger

from .commands import Apop, Auth, AuthReply, Capa, Pass, Stls, User, check_text
from .errors import (
    CommandError,
    LoginError,
    ProtocolError,
    STLSUnavailableError,
    UsageError,
)
from .protocol import POP3ClientProtocol
from .replies import Capabilities
from .results import LoginInfo
from .sasl import (
    MECHANISMS,
    Credentials,
    apop_challenge,
    apop_digest,
    choose,
    decode_challenge,
    encode_response,
    forms,
)
from .session import State
from .status import Secret

__all__ = ["Account", "Password", "Session", "log_in"]

log = Logger()

Password = str | Callable[[], "str | Awaitable[str]"]
"""A password, or a function that returns one, a Deferred of one or a coroutine."""

MAX_STEPS = 16
"""No mechanism has more than four challenges; a server without end is not one."""


@attrs.frozen
class Account:
    """Who wants to log in, and how."""

    username: str
    password: Password = attrs.field(repr=False)
    auth: str = "auto"
    stls: bool = False


@attrs.frozen
class Session:
    """What the login has found out."""

    greeting: str
    capabilities: Capabilities
    login: LoginInfo


async def log_in(protocol: POP3ClientProtocol, account: Account) -> Session:
    """
    Take a new connection to the state TRANSACTION.

    :raises STLSUnavailableError: STLS was asked for and is not to be had.
    :raises LoginError: the server refused.
    :raises UsageError: this server cannot be given this name or password.
    :raises POP3Error: and all that can happen to a connection.
    """
    greeting = await protocol.when_greeted()
    capabilities = await _capabilities(protocol)
    if account.stls:
        await _upgrade(protocol, capabilities)
        capabilities = await _capabilities(protocol)
    login = await _authenticate(protocol, account, greeting, capabilities)
    protocol.enter(State.TRANSACTION)
    # Servers offer more, or at last the truth, after the login.
    now = await _capabilities(protocol)
    if now.known:
        capabilities = now
    if protocol.settings.pipeline and "PIPELINING" in capabilities:
        protocol.allow_pipelining()
    return Session(protocol.transcript.clean(greeting), capabilities, login)


async def _capabilities(protocol: POP3ClientProtocol) -> Capabilities:
    try:
        return await protocol.submit(Capa())
    except CommandError:
        # RFC 2449 section 4: no extensions then; logging in still works.
        return Capabilities(known=False)


async def _upgrade(protocol: POP3ClientProtocol, capabilities: Capabilities) -> None:
    server = str(protocol.settings.server)
    if capabilities.known and "STLS" not in capabilities:
        raise STLSUnavailableError(
            "the server does not offer STLS, so the session was ended before the "
            "login; use secure=1 if the server has a port for TLS (995)",
            server=server,
            verb="STLS",
        )
    try:
        await protocol.submit(Stls())
    except CommandError as error:
        raise STLSUnavailableError(
            f"the server refused STLS ({error.text or 'it gave no reason'}), so the "
            "session was ended before the login",
            server=server,
            verb="STLS",
        ) from error


async def _authenticate(
    protocol: POP3ClientProtocol,
    account: Account,
    greeting: bytes,
    capabilities: Capabilities,
) -> LoginInfo:
    challenge = apop_challenge(greeting)
    mechanism = choose(
        account.auth,
        capabilities,
        protected=protocol.tls is not None,
        challenge=challenge is not None,
    )[0]
    credentials = Credentials(account.username, await _password(protocol, account))
    protocol.transcript.keep_secret(*forms(credentials))
    cleartext = mechanism != "APOP" and protocol.tls is None
    if cleartext:
        warning = "the password is sent without TLS: who listens can read it"
        protocol.transcript.warning(warning)
        log.warn("{server}: {text}", server=protocol.settings.server, text=warning)
    try:
        if mechanism == "APOP":
            await _apop(protocol, credentials, challenge)
        elif mechanism == "USER":
            await _user(protocol, credentials, capabilities)
        else:
            await _sasl(protocol, credentials, mechanism)
    except CommandError as error:
        raise _login_error(error, mechanism, capabilities) from error
    return LoginInfo(mechanism, cleartext)


async def _password(protocol: POP3ClientProtocol, account: Account) -> Secret:
    password: object = account.password
    if callable(password):
        try:
            password = await maybeDeferred(_called, password)
        except Exception as error:
            # Its text stays where it is: it may have a token in it.
            raise UsageError(
                f"the password callable failed with {type(error).__name__}; nothing "
                "was sent of the login",
                server=str(protocol.settings.server),
            ) from error
        if not isinstance(password, str):
            raise UsageError(
                f"the password callable returned {type(password).__name__}, and not "
                "a str",
                server=str(protocol.settings.server),
            )
    secret = Secret(password)
    check_text("password", secret)
    return secret


def _called(password: Callable[[], object]) -> object:
    result = password()
    return ensureDeferred(result) if iscoroutine(result) else result


async def _apop(
    protocol: POP3ClientProtocol, credentials: Credentials, challenge: bytes | None
) -> None:
    """Log in with a digest (RFC 1939 section 7)."""
    if challenge is None:
        raise UsageError(
            "auth='APOP' needs a timestamp like <1896.697170952@pop.example.com> in "
            "the server's greeting, and there is none; use another auth",
            server=str(protocol.settings.server),
            verb="APOP",
        )
    digest = Secret(apop_digest(challenge, credentials.password))
    protocol.transcript.keep_secret(digest.encode("ascii"))
    await protocol.submit(Apop(credentials.username, digest))


async def _user(
    protocol: POP3ClientProtocol, credentials: Credentials, capabilities: Capabilities
) -> None:
    """Log in with name and password (RFC 1939 section 7)."""
    if not (credentials.username + credentials.password).isascii():
        # RFC 6856 section 2.2: the argument USER of the capability UTF8.
        words = [word.upper() for word in capabilities.get("UTF8", ())]
        if "USER" not in words:
            raise UsageError(
                "the user name or the password is not all ASCII, which this server "
                "does not take with USER and PASS; use an auth that takes UTF-8, "
                "such as 'PLAIN', or change the password",
                server=str(protocol.settings.server),
                verb="USER",
            )
    send = Pass(credentials.password)
    await protocol.submit(User(credentials.username))
    await protocol.submit(send)


async def _sasl(
    protocol: POP3ClientProtocol, credentials: Credentials, name: str
) -> None:
    """Log in with a SASL mechanism (RFC 5034 section 4)."""
    mechanism = MECHANISMS[name](credentials)
    protocol.transcript.keep_secret(*mechanism.secrets())
    challenge = await protocol.submit(Auth(name))
    for _ in range(MAX_STEPS):
        if challenge is None:
            return
        decoded = decode_challenge(challenge)
        if decoded is None:
            # RFC 5034 section 4: cancel, and the server answers -ERR.
            await protocol.submit(AuthReply("*"))
            break
        challenge = await protocol.submit(
            AuthReply(encode_response(mechanism.respond(decoded)))
        )
    raise ProtocolError(
        f"the server's side of {name} makes no sense",
        server=str(protocol.settings.server),
        verb="AUTH",
    )


def _login_error(
    error: CommandError, mechanism: str, capabilities: Capabilities
) -> LoginError:
    delayed = error.code == "LOGIN-DELAY"
    return LoginError(
        error.message,
        text=error.text,
        code=error.code,
        retry_after=capabilities.login_delay if delayed else None,
        mechanism=mechanism,
        server=error.server,
        verb=error.verb,
    )
