"""
``info``: what a server is, what it can do, and whether it is trusted.

The order makes it safe: first a look without credentials, then verification, and only a
server that has passed it receives the credentials.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import attrs
import click
from click.core import ParameterSource

from ..address import Secure, ServerAddress
from ..discovery import Candidate
from ..redaction import Secret
from ..results import Capabilities, LoginInfo
from ..tls.pins import pin_of
from .access import Access, access_options
from .certificates import CertificateFacts, facts_of
from .discover import described, dns_option, find, looks_like_address
from .exits import Exit, words
from .look import Seen, look, why_not_trusted
from .named import NamedAccount
from .opening import log_in
from .output import echo, echo_json, styled
from .passwords import read_password
from .running import finish

__all__ = ["info_command"]


@attrs.define
class _Report:
    """
    What is known of a server so far.

    :ivar trusted: ``None`` without TLS, or if it was not checked.
    :ivar reason: why it is not trusted.
    :ivar after: its capabilities after the login.
    :ivar candidates: what the DNS named; ``None``: it was not asked.
    """

    seen: Seen
    trusted: bool | None = None
    reason: str | None = None
    after: Capabilities | None = None
    login: LoginInfo | None = None
    candidates: list[Candidate] | None = None


@click.command("info")
@partial(access_options, instead=looks_like_address)
@dns_option
def info_command(access: Access, dns: ServerAddress | None) -> None:
    """
    Show the greeting, capabilities and certificates of a server.

    It also says whether the server is trusted, and why not.

    SERVER may be a mail address: then the first server is shown that 'pop3connect
    discover' finds.  Nothing secret is sent to it.

    --user is optional; with it, info also logs in if the server is trusted.
    """
    if access.account is not None and not access.checks:
        source = click.get_current_context().get_parameter_source("user")
        if source is ParameterSource.DEFAULT_MAP:
            access.output.note("not logged in, because the server is not verified")
            access = attrs.evolve(access, user=None)
    if access.user is not None and not access.checks:
        raise click.UsageError(
            "info logs in only to servers that are verified: leave out --user or "
            "--no-verify, or give a --pin"
        )
    if looks_like_address(access.server):
        _check_address_options(access)
    elif dns is not None:
        raise click.UsageError("--dns is for a mail address in place of a server")
    password = None if access.user is None else read_password(access)

    async def work(reactor: Any) -> int:
        return await _inform(access, dns, password, reactor)

    finish(work, access.output)


def _check_address_options(access: Access) -> None:
    """
    Check that nothing is asked for that a server of the DNS's choice must not get.

    :raises click.UsageError: there is such an option.
    """
    if access.user is not None or access.client_certificate is not None:
        raise click.UsageError(
            "info does not log in to a server that only the DNS names: choose one that "
            "'pop3connect discover' shows, and give it in place of the address"
        )
    if access.proxy is not None:
        raise click.UsageError(
            "the DNS is asked by this computer, not through --proxy: give the server"
        )
    source = click.get_current_context().get_parameter_source("secure")
    if source is not ParameterSource.DEFAULT:
        raise click.UsageError(
            "--secure cannot be used with a mail address: the DNS says which it is"
        )


async def _inform(
    access: Access,
    dns: ServerAddress | None,
    password: Secret | NamedAccount | None,
    reactor: Any,
) -> int:
    candidates = None
    if looks_like_address(access.server):
        candidates = await find(access.server, dns, access.timeout, reactor)
        first = candidates[0]
        access = attrs.evolve(access, server=first.server, secure=first.secure)
    report = _Report(await look(access, reactor), candidates=candidates)
    try:
        if report.seen.tls is not None and access.checks:
            reason = await why_not_trusted(access, reactor)
            report.trusted = reason is None
            report.reason = None if reason is None else words(reason)
        if password is not None and _may_log_in(access, report):
            async with await log_in(access, password, reactor) as handle:
                report.login = handle.login
            # The reply to CAPA comes before that to QUIT.
            report.after = handle.capabilities
    finally:
        # After an error, what is known so far helps most.
        _show(access, report)
    return _status(access, report)


def _may_log_in(access: Access, report: _Report) -> bool:
    return access.secure is Secure.NONE or report.trusted is True


def _status(access: Access, report: _Report) -> int:
    if access.secure is not Secure.NONE and report.seen.tls is None:
        return Exit.NO_TLS
    return Exit.NOT_TRUSTED if report.trusted is False else Exit.DONE


def _show(access: Access, report: _Report) -> None:
    chain = [facts_of(certificate) for certificate in report.seen.chain]
    key = pin_of(report.seen.chain[0]) if chain else None
    if access.output.json:
        echo_json(_json(access, report, chain, key))
    else:
        _print(access, report, chain, key)


def _json(
    access: Access, report: _Report, chain: list[CertificateFacts], key: str | None
) -> dict[str, Any]:
    seen = report.seen
    tls = None
    if seen.tls is not None:
        tls = {"version": seen.tls.version, "cipher": seen.tls.cipher}
    return {
        "server": str(access.address),
        "greeting": seen.greeting,
        "capabilities": {
            "in_the_clear": _tags(seen.before),
            "under_tls": _tags(seen.under),
            "after_login": _tags(report.after),
        },
        "tls": tls,
        "certificates": [attrs.asdict(one) for one in chain],
        "spki_sha256": None if key is None else key.removeprefix("sha256//"),
        "pin": key,
        "trusted": report.trusted,
        "reason": report.reason,
        "login": None if report.login is None else attrs.asdict(report.login),
        "candidates": report.candidates and [*map(described, report.candidates)],
    }


def _tags(capabilities: Capabilities | None) -> dict[str, list[str]] | None:
    if capabilities is None or not capabilities.known:
        return None
    return {tag: list(words) for tag, words in capabilities.items()}


def _print(
    access: Access, report: _Report, chain: list[CertificateFacts], key: str | None
) -> None:
    seen = report.seen
    _line("server", str(access.address))
    if report.candidates is not None:
        _line("", _origin(report.candidates))
    _line("greeting", seen.greeting)
    _capabilities("in the clear", seen.before)
    if seen.tls is not None:
        _line("TLS", f"{seen.tls.version}, {seen.tls.cipher}")
    elif access.secure is not Secure.NONE:
        _line("TLS", "the server does not offer STLS, or refuses it")
    for one in chain:
        _line("certificate", one.subject)
        if one.problem:
            _line("", f"CANNOT BE PARSED, described by OpenSSL: {one.problem}")
        if one.names:
            _line("", f"for {', '.join(one.names)}")
        _line("", f"issued by {one.issuer}")
        _line("", f"valid from {_day(one.not_before)} to {_day(one.not_after)}")
        _line("", f"SHA-256 {one.sha256}")
    if key is not None:
        _line("pin", key)
    if seen.tls is not None:
        _line("trusted", _verdict(report))
    _capabilities("under TLS", seen.under)
    if report.login is not None:
        login = report.login.mechanism
        if report.login.cleartext:
            login += ", the password went in the clear"
        _line("login", login)
        _capabilities("after login", report.after)


def _origin(candidates: list[Candidate]) -> str:
    first = candidates[0]
    text = f"proposed by the DNS for {first.usernames[0]}"
    if len(candidates) > 1:
        text += f", the first of {len(candidates)}"
    if not first.in_domain:
        text += f"; it is NOT in the domain {first.domain}"
    return text


def _day(time: str) -> str:
    return time[:10] or "(unreadable)"


def _verdict(report: _Report) -> str:
    if report.trusted is None:
        return "not checked"
    if report.trusted:
        return styled("yes", sys.stdout, fg="green")
    return f"{styled('NO', sys.stdout, fg='red', bold=True)}: {report.reason}"


def _capabilities(when: str, capabilities: Capabilities | None) -> None:
    if capabilities is None:
        return
    if not capabilities.known:
        _line(when, "the server does not know CAPA")
        return
    for tag, parameters in capabilities.items():
        _line(when, " ".join([tag, *parameters]))
        when = ""


def _line(name: str, text: str) -> None:
    echo(f"{name:<13} {text}")
