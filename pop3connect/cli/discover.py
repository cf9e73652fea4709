"""
``discover``: which servers are named for a mail address.  Nobody connects to them.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

import attrs
import click

from ..address import ServerAddress
from ..discovery import Candidate, discover
from ..errors import UsageError
from .access import seconds
from .exits import Exit
from .output import Output, echo, echo_json, output_options
from .running import finish

__all__ = ["described", "discover_command", "dns_option", "find", "looks_like_address"]

_DNS_PORT = 53

_ADDRESS = re.compile(r"[^\s:/@]+@[^\s:/@]+")
"""A mail address, and neither a URL nor ``user:password@host``."""


def looks_like_address(text: str) -> bool:
    """Return whether a text is a mail address rather than a server."""
    return _ADDRESS.fullmatch(text) is not None


def _dns(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> ServerAddress | None:
    if value is None:
        return None
    try:
        server = ServerAddress.parse(value, _DNS_PORT)
    except UsageError as error:
        raise click.BadParameter(error.message) from None
    if not server.is_ip:
        raise click.BadParameter(f"{value!r} is not an IP address")
    return server


dns_option = click.option(
    "--dns",
    callback=_dns,
    metavar="IP[:PORT]",
    help="The DNS server to ask; default: those of this system.",
)


async def find(
    address: str,
    dns: ServerAddress | None,
    timeout: float,
    reactor: Any,
    *,
    autoconfig: bool = False,
) -> list[Candidate]:
    """
    Return the servers of an address.

    :param dns: the DNS server to ask.
    :param autoconfig: ask the provider as well.
    :raises POP3Error: as `discover`.
    """
    # Not at the top: it takes time, and other commands do not need it.
    from twisted.names.client import Resolver

    resolver = None
    if dns is not None:
        resolver = Resolver(servers=[(dns.host, dns.port)], reactor=reactor)
    return await discover(
        address,
        timeout=timeout,
        resolver=resolver,
        reactor=reactor,
        autoconfig=autoconfig,
    )


def described(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate for JSON."""
    return {
        **attrs.asdict(candidate),
        "secure": candidate.secure.name.lower(),
        "in_domain": candidate.in_domain,
    }


@click.command(
    "discover", short_help="Show the servers that the DNS has for an address."
)
@click.argument("address")
@dns_option
@click.option(
    "--timeout",
    callback=seconds,
    type=float,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for the answers.",
)
@click.option(
    "--autoconfig",
    is_flag=True,
    help="Ask the provider over HTTPS as well; it is sent the address.",
)
@output_options
def discover_command(
    address: str,
    dns: ServerAddress | None,
    timeout: float,
    autoconfig: bool,
    output: Output,
) -> None:
    """
    Show the mail servers of ADDRESS, such as ada@example.com.

    The first one is to be tried first.  DNS answers can be forged: confirm the name of
    the server before you send it a password.
    """

    async def work(reactor: Any) -> int:
        candidates = await find(address, dns, timeout, reactor, autoconfig=autoconfig)
        if output.json:
            for candidate in candidates:
                echo_json(described(candidate))
        else:
            _show(candidates, output)
        return Exit.DONE

    finish(work, output)


def _show(candidates: list[Candidate], output: Output) -> None:
    width = max(len(candidate.server) for candidate in candidates)
    for candidate in candidates:
        secure = f"--secure {candidate.secure.name.lower()}"
        # To be copied into a shell, and the provider may have chosen the name.
        user = shlex.quote(candidate.usernames[0])
        echo(f"{candidate.server:{width}}  {secure:13}  --user {user}")
    foreign = [each.host for each in candidates if not each.in_domain]
    if foreign:
        output.note(
            f"not in the domain {candidates[0].domain}: "
            f"{', '.join(dict.fromkeys(foreign))}; ask the provider of the mailbox "
            "whether this is right before you send a password there"
        )
