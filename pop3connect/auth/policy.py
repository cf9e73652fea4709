"""
The login policy: which mechanisms a client and a server have in common, their order,
and what may follow a refusal.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ..errors import CommandError, UsageError
from ..remedies import Option
from ..results import Capabilities
from ..sansio.commands import check_text
from .sasl import BAD_CREDENTIALS, MECHANISMS, SCRAM, SCRAM_PLUS, ChannelBinding

__all__ = [
    "AUTHORIZING",
    "NO_PASSWORD",
    "Attempt",
    "Outcome",
    "Verdict",
    "check_auth",
    "check_authorize_as",
    "choose",
    "concerns_something_else",
    "names_cyrus",
    "next_attempt",
    "order_bindings",
    "plan",
    "sends_password",
]

NO_PASSWORD = ("EXTERNAL", "ANONYMOUS")
"""Mechanisms that use no password."""

AUTHORIZING = ("PLAIN", "SCRAM", "EXTERNAL", "OAUTHBEARER")
"""The mechanisms that carry an authorization identity, for people."""


@attrs.frozen
class Attempt:
    """
    One way to log in: a mechanism, and what it is bound to.

    :ivar mechanism: ``"USER"``, ``"APOP"`` or the name of a SASL mechanism.
    :ivar binding: what a -PLUS mechanism binds to.  With SCRAM without -PLUS it says
        that this client could bind and the server does not offer it (the flag ``y``).
    :ivar fresh: whether the token is asked for again first.
    """

    mechanism: str
    binding: ChannelBinding | None = attrs.field(default=None, repr=False)
    fresh: bool = False

    @property
    def bound(self) -> bool:
        """Whether the login is bound to the TLS connection."""
        return self.mechanism.endswith("-PLUS")

    @property
    def kind(self) -> tuple[str, str | None, bool]:
        """What two attempts on different connections have in common."""
        binding = None if self.binding is None else self.binding[0]
        return self.mechanism, binding, self.fresh

    @property
    def title(self) -> str:
        """The mechanism, and the type of the binding where there is one."""
        if self.bound and self.binding is not None:
            return f"{self.mechanism} bound by {self.binding[0]}"
        return self.mechanism


class Verdict(enum.Enum):
    """How a server answered an attempt."""

    ACCEPTED = "accepted"
    UNSUPPORTED = "unsupported"
    """The mechanism cannot be used here; the credentials were not judged."""
    REFUSED = "refused"
    """The refusal may concern the credentials."""


# Never compared and never shown: methods for that would cost time at every import.
@attrs.frozen(eq=False, repr=False)
class Outcome:
    """
    The outcome of an attempt.

    :ivar error: why it failed: the server's refusal, or a `UsageError` where the
        mechanism cannot carry this user name or password.
    :ivar details: what the server said about the failure beside its ``-ERR``.
    :ivar reason: why this client gave the mechanism up, where it did so itself.
    :ivar outdated: whether the server was asked after it, and what it offers now leads
        to another attempt.
    """

    attempt: Attempt
    verdict: Verdict
    error: CommandError | UsageError | None = None
    details: Mapping[str, str] = attrs.field(factory=dict)
    reason: str = ""
    outdated: bool = False

    @property
    def code(self) -> str | None:
        """The response code of the refusal."""
        return self.error.code if isinstance(self.error, CommandError) else None


# -- the order


def sends_password(name: str) -> bool:
    """Return whether an eavesdropper could log in with what this mechanism sends."""
    return name == "USER" or (name in MECHANISMS and MECHANISMS[name].cleartext)


def choose(
    auth: str,
    capabilities: Capabilities,
    *,
    protected: bool,
    bindable: bool,
    challenge: bool,
    certificate: bool,
    authorizes: bool = False,
) -> list[str]:
    """
    Return the mechanisms to try, the best first; an empty list if none is common.

    :param auth: ``"auto"``, or the one that the caller wants.
    :param protected: whether TLS is on.
    :param bindable: whether there is a channel to bind to.
    :param challenge: whether the greeting had a timestamp, for APOP.
    :param certificate: whether a client certificate was given.
    :param authorizes: whether an authorization identity must be carried.
    """
    if auth != "auto":
        return [auth]
    names = _choose_freely(capabilities, protected, bindable, challenge, certificate)
    return [name for name in names if not authorizes or _authorizes(name)]


def _authorizes(name: str) -> bool:
    return name in MECHANISMS and MECHANISMS[name].authorizes


def _choose_freely(
    capabilities: Capabilities,
    protected: bool,
    bindable: bool,
    challenge: bool,
    certificate: bool,
) -> list[str]:
    offered = capabilities.sasl
    if not protected:
        # Mechanisms that prove knowledge of the password come before USER, which sends
        # it.  PLAIN and LOGIN send it too, and are for TLS only (RFC 2595 section 6).
        proofs = [name for name in (*SCRAM, "CRAM-MD5") if name in offered]
        return [*proofs, *_apop(challenge), *_user(capabilities)]
    wanted = (
        *(["EXTERNAL"] if certificate else []),
        *(SCRAM_PLUS if bindable else ()),
        *SCRAM,
        "PLAIN",
        "LOGIN",
    )
    # The digests need a password that the server keeps as it is, and servers offer them
    # for accounts that have none: they come last.
    digests = ["CRAM-MD5"] if "CRAM-MD5" in offered else []
    return [
        *(name for name in wanted if name in offered),
        *_user(capabilities),
        *digests,
        *_apop(challenge),
    ]


def _user(capabilities: Capabilities) -> list[str]:
    # RFC 2449 section 6.2 has USER announced.  Servers without CAPA, or that list no
    # mechanism at all, know it as well.
    said = capabilities.known and (capabilities.sasl or "SASL" in capabilities)
    return ["USER"] if "USER" in capabilities or not said else []


def _apop(challenge: bool) -> list[str]:
    return ["APOP"] if challenge else []


def check_auth(auth: Any) -> str:
    """
    Return the name of a mechanism as `choose` knows it.

    :raises UsageError: there is no such mechanism.
    """
    name = auth.upper() if isinstance(auth, str) else ""
    if name == "AUTO":
        return "auto"
    known = ("USER", "APOP", *MECHANISMS)
    if name not in known:
        raise UsageError(
            f" is not known; it can be 'auto', {', '.join(known)}, or an "
            "IClientAuthentication of Twisted",
            option=Option("auth", auth),
        )
    return name


def check_authorize_as(authorize_as: str, auth: Any) -> None:
    """
    Check an authorization identity.

    :param auth: as `check_auth` returns it, or an ``IClientAuthentication``.
    :raises UsageError: it cannot be sent, or not by this mechanism.
    """
    check_text("authorization identity (authorize_as)", authorize_as)
    if auth == "auto" or (isinstance(auth, str) and _authorizes(auth)):
        return
    mechanism = auth if isinstance(auth, str) else "your own mechanism"
    raise UsageError(
        f" cannot be used with {mechanism}, which carries no authorization identity; "
        f"use 'auto', {', '.join(AUTHORIZING)}",
        option=Option("authorize_as"),
    )


# -- channel bindings


def names_cyrus(greeting: bytes, capabilities: Capabilities) -> bool:
    """
    Return whether a server calls itself Cyrus, in its greeting or IMPLEMENTATION.

    Cyrus knows one channel binding, tls-unique, with every version of TLS.  RFC 2449
    section 6.9 wants no behaviour to depend on the name; here it changes the order of
    the bindings, and never whether one is used.
    """
    told = (capabilities.implementation or "").encode("utf-8", "replace")
    return any(b"cyrus" in text.lower() for text in (greeting, told))


def order_bindings(
    bindings: Sequence[ChannelBinding], *, known: str | None, cyrus: bool
) -> list[ChannelBinding]:
    """
    Return the channel bindings in the order in which to try them.

    :param bindings: what this connection has, the strongest first.
    :param known: the type that worked with this server before.
    :param cyrus: whether the server calls itself Cyrus.
    """
    first = known or ("tls-unique" if cyrus else None)
    return sorted(bindings, key=lambda binding: binding[0] != first)


def plan(
    mechanisms: Sequence[str],
    capabilities: Capabilities,
    bindings: Sequence[ChannelBinding],
    *,
    renewable: bool,
) -> list[Attempt]:
    """
    Return every attempt that may be made, in order.

    :param bindings: in the order in which to try them.
    :param renewable: whether a fresh token can be had.
    """
    offered = capabilities.sasl
    # RFC 5802 section 6: a server that offers -PLUS must refuse the flag y.  Where the
    # server lists no mechanisms, nothing is known of what it offers.
    stripped = offered and not any(name.endswith("-PLUS") for name in offered)
    attempts: list[Attempt] = []
    for name in mechanisms:
        if name.endswith("-PLUS"):
            attempts += [Attempt(name, binding) for binding in bindings or (None,)]
        elif name in SCRAM and stripped and bindings:
            attempts.append(Attempt(name, bindings[0]))
        else:
            attempts.append(Attempt(name))
        if renewable and name in MECHANISMS and MECHANISMS[name].oauth:
            attempts.append(Attempt(name, fresh=True))
    return attempts


# -- after a refusal


def next_attempt(
    attempts: Sequence[Attempt], tried: Sequence[Outcome], known: str | None = None
) -> Attempt | None:
    """
    Return what to try next; ``None`` if the login has failed.

    After a refusal that may concern the credentials there is at most one further
    attempt: a server counts them, and may lock the account.  Nothing follows
    ``[IN-USE]``, ``[LOGIN-DELAY]`` and ``[SYS/...]``, which concern something else
    (RFC 2449 section 8.1, RFC 3206 section 4).  A login that was bound to the
    connection is not followed by one that is not: to make a client give up the
    binding is what an attacker would want.

    :param tried: the outcomes so far, on this connection and the one before it.
    :param known: the type of binding that worked with this server before.
    """
    refusals = [outcome for outcome in tried if outcome.verdict is Verdict.REFUSED]
    if len(refusals) > 1 or any(concerns_something_else(o.code) for o in tried):
        return None
    done = [outcome.attempt.kind for outcome in tried]
    left = [attempt for attempt in attempts if attempt.kind not in done]
    if any(_server_refused_binding(outcome) for outcome in tried):
        left = [attempt for attempt in left if attempt.bound]
    if any(outcome.reason for outcome in tried):
        # The salt is the account's: it is the same for every SCRAM.
        left = [a for a in left if a.mechanism not in (*SCRAM, *SCRAM_PLUS)]
    if refusals:
        since = tried[tried.index(refusals[0]) + 1 :]
        if refusals[0].outdated and not all(each.attempt.bound for each in since):
            # Called unsupported, but the password may have been judged.
            return None
        left = [attempt for attempt in left if _follows(refusals[0], attempt, known)]
    else:
        left = [attempt for attempt in left if not attempt.fresh]
    return left[0] if left else None


def concerns_something_else(code: str | None) -> bool:
    """Return whether a refusal with this code has nothing to do with the login."""
    return (code or "").split("/")[0] in ("IN-USE", "LOGIN-DELAY", "SYS")


def _server_refused_binding(outcome: Outcome) -> bool:
    refused = isinstance(outcome.error, CommandError) and not outcome.reason
    return refused and outcome.attempt.bound


def _follows(refusal: Outcome, attempt: Attempt, known: str | None) -> bool:
    """Return whether this may be the one attempt after a refusal."""
    was = refusal.attempt
    if refusal.outdated:
        return not attempt.fresh
    if was.bound:
        # Cyrus compares the type of the binding only after the proof, and answers as to
        # a wrong password.
        binding = was.binding[0] if was.binding else None
        return (
            attempt.mechanism == was.mechanism
            and binding != known
            and refusal.details.get("error") not in BAD_CREDENTIALS
            and refusal.code in (None, "AUTH")
        )
    if attempt.fresh:
        # The token has expired, perhaps.
        told = bool(refusal.details) or refusal.code == "AUTH"
        return attempt.mechanism == was.mechanism and told
    if was.mechanism == "APOP":
        # Servers send a timestamp though the account has no APOP secret, and call that
        # a wrong password: Mailutils with the code [AUTH].
        return attempt.mechanism == "USER" and refusal.code in (None, "AUTH")
    # The command USER was refused: the password was not sent.
    at_user = refusal.error is not None and refusal.error.verb == "USER"
    return was.mechanism == "USER" and at_user and refusal.code is None
