"""
The login policy: which ways to log in there are for a caller and a server, and which
of them comes first.
"""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..results import Capabilities
from .sasl import MECHANISMS, SCRAM, SCRAM_PLUS

__all__ = ["NO_PASSWORD", "check_auth", "choose", "sends_password"]

NO_PASSWORD = ("EXTERNAL", "ANONYMOUS")
"""Those that have no use for a password."""


def sends_password(name: str) -> bool:
    """Say whether who listens can log in with what he hears."""
    return name == "USER" or (name in MECHANISMS and MECHANISMS[name].cleartext)


def choose(
    auth: str,
    capabilities: Capabilities,
    *,
    protected: bool,
    bindable: bool,
    challenge: bool,
    certificate: bool,
) -> list[str]:
    """
    Return the ways to try, the best first; none if there is no way.

    :param auth: ``"auto"``, or the one that the caller wants.
    :param protected: whether TLS is on.
    :param bindable: whether there is a channel to bind to.
    :param challenge: whether the greeting had one, for APOP.
    :param certificate: whether we have shown a client certificate.
    """
    if auth != "auto":
        return [auth]
    offered = capabilities.sasl
    if not protected:
        # What proves the password before what tells it.  PLAIN and LOGIN tell it no
        # less than USER does, and are for TLS only (RFC 2595 section 6).
        proofs = [name for name in (*SCRAM, "CRAM-MD5") if name in offered]
        return [*proofs, *_apop(challenge), *_user(capabilities)]
    wanted = (
        *(["EXTERNAL"] if certificate else []),
        *(SCRAM_PLUS if bindable else ()),
        *SCRAM,
        "PLAIN",
        "LOGIN",
    )
    ways = [name for name in wanted if name in offered]
    # Digests of a password that the server has to keep as it is.  APOP last: there
    # are servers that offer it and cannot do it.
    digests = [name for name in ("CRAM-MD5",) if name in offered] + _apop(challenge)
    if "SASL" in capabilities and not offered:
        # It says that it has no way but these.
        return [*digests, *_user(capabilities)]
    return [*ways, *_user(capabilities), *digests]


def _user(capabilities: Capabilities) -> list[str]:
    # RFC 2449 section 6.3 has USER announced.  Servers without CAPA, or that list
    # nothing to log in with at all, know it as well.
    said = capabilities.known and (capabilities.sasl or "SASL" in capabilities)
    return ["USER"] if "USER" in capabilities or not said else []


def _apop(challenge: bool) -> list[str]:
    return ["APOP"] if challenge else []


def check_auth(auth: Any) -> str:
    """
    Return the name of a way to log in as `choose` knows it.

    :raises UsageError: there is no such way.
    """
    name = auth.upper() if isinstance(auth, str) else ""
    if name == "AUTO":
        return "auto"
    known = ("USER", "APOP", *MECHANISMS)
    if name not in known:
        raise UsageError(
            f"auth={auth!r} is not known; it can be 'auto', {', '.join(known)}, or an "
            "IClientAuthentication of Twisted"
        )
    return name
