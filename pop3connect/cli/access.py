"""
The options that all commands have: the server, the user and the protection.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any

import attrs
import click

from ..address import POP3_PORT, POP3S_PORT, Secure, ServerAddress
from ..auth.policy import check_auth
from ..auth.sasl import MECHANISMS
from ..connector import MAX_SECONDS, Connector
from ..errors import UsageError
from ..events import EventProcedure
from ..proxy import ProxyAddress, from_environment
from ..redaction import hidden
from ..tls.options import VERSIONS, TLSOptions
from .named import MARK, NamedAccount, accounts_file, complete_server
from .output import Output, output_options
from .told import Told

if TYPE_CHECKING:
    # Not imported for a plain session, because OpenSSL takes time.
    from ..tls.trust import Trust

__all__ = ["KEY_PASSWORD_VARIABLE", "Access", "access_options"]

KEY_PASSWORD_VARIABLE = "POP3CONNECT_CLIENT_KEY_PASSWORD"  # noqa: S105 - its name

FROM_ENVIRONMENT = "env"
"""The value of --proxy for the proxy that the environment names."""

_ACCOUNT = f"{__name__}.account"
"""The key of click's context for the account that was named, and warnings about it."""

_WAYS = {"none": Secure.NONE, "tls": Secure.TLS, "stls": Secure.STLS}


@attrs.frozen
class Access:
    """
    The values of the common options.

    :ivar netrc: a file with passwords; ``""``: the usual one.
    :ivar account: the account that was named in place of a server.
    """

    server: str
    user: str | None
    secure: Secure
    verify: bool
    cacerts: str | None
    system_trust: bool
    auth: str
    timeout: float
    connect_timeout: float
    pipeline: bool
    capa: bool
    allow_cleartext: bool
    client_certificate: str | None
    pins: tuple[str, ...]
    crl: str | None
    minimum_version: str
    ciphers: str | None
    authorize_as: str | None
    proxy: str | None
    password_command: str | None
    keyring: bool
    netrc: str | None
    trace: bool
    output: Output
    account: NamedAccount | None = None

    @property
    def address(self) -> ServerAddress:
        """
        The server.

        :raises click.UsageError: it is not a server's address.
        """
        port = POP3S_PORT if self.secure is Secure.TLS else POP3_PORT
        try:
            return ServerAddress.parse(self.server, port)
        except UsageError as error:
            raise click.UsageError(str(error)) from error

    @property
    def mailbox(self) -> str | None:
        """Whose mailbox it is: that of --authorize-as, or of --user."""
        return self.authorize_as or self.user

    @property
    def checks(self) -> bool:
        """Whether the server must prove its identity."""
        return self.verify or bool(self.pins)

    @property
    def trust(self) -> Trust | None:
        """
        The certificates to trust; ``None``: none are checked.

        :raises pop3connect.UsageError: there is no such folder or file.
        """
        from ..tls.trust import Trust

        if not self.verify:
            return None
        return Trust.choose(self.cacerts, self.system_trust, os.environ)

    @property
    def tls_options(self) -> TLSOptions:
        """
        How TLS is used.

        :raises pop3connect.UsageError: an option cannot be used.
        """
        # The variable may be there for other commands.
        password = os.environ.get(KEY_PASSWORD_VARIABLE) or None
        return TLSOptions(
            minimum_version=self.minimum_version,
            ciphers=self.ciphers,
            client_key_password=password if self.client_certificate else None,
            crl=self.crl,
        )

    def connector(self, **options: Any) -> Connector:
        """
        Return what opens sessions with the server.

        :param options: those of `Connector` that are not among the common ones.
        :raises pop3connect.UsageError: as `Connector`.
        """
        tls = self.tls_options
        if self.events is not None:
            options["events"] = self.events
        return Connector(
            self.server,
            secure=self.secure,
            verify=self.verify,
            cacerts=self.cacerts,
            system_trust=self.system_trust,
            auth=self.auth,
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
            pipeline=self.pipeline,
            capa=self.capa,
            client_certificate=self.client_certificate,
            tls=None if tls == TLSOptions() else tls,
            pins=self.pins or None,
            authorize_as=self.authorize_as,
            proxy=self.proxy,
            **options,
        )

    @property
    def events(self) -> EventProcedure | None:
        """The function that tells the steps of a session, with --verbose."""
        return Told(self.output) if self.output.verbose else None

    @property
    def status_procedure(self) -> Callable[[str], object] | None:
        """The function that shows the protocol messages, with --trace."""
        return _trace if self.trace else None


def _trace(line: str) -> None:
    click.echo(line, file=sys.stderr)


def _auth(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return check_auth(value)
    except UsageError:
        known = ", ".join(("auto", "USER", "APOP", *MECHANISMS))
        raise click.BadParameter(f"{value!r} is not one of {known}") from None


def _pins(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if value:
        from ..tls.pins import check_pins

        try:
            check_pins(value)
        except UsageError as error:
            raise click.BadParameter(error.message.lstrip(": ")) from None
    return value


def _proxy(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    if value is None:
        return None
    problem = ""
    try:
        url = hidden(from_environment() if value == FROM_ENVIRONMENT else value)
        ProxyAddress.parse(url)
    except UsageError as error:
        problem = error.message
    if problem:
        raise click.BadParameter(f"it{problem}")
    return url


def _server(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """
    Let the name of an account stand for its server, and give its values to the options.

    It is called before the other parameters are processed, and those of the command
    line win.
    """
    if context.resilient_parsing or not value.startswith(MARK):
        return value
    problem = ""
    try:
        account, warnings = NamedAccount.find(value[len(MARK) :], accounts_file())
    except UsageError as error:
        problem = error.message
    if problem:
        raise click.UsageError(problem)
    context.meta[_ACCOUNT] = account, warnings
    context.default_map = account.defaults
    return account.settings.server


def seconds(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Check a time limit."""
    if 0 < value <= MAX_SECONDS:
        return value
    raise click.BadParameter(
        f"{value:g} is not a number of seconds above 0, of a year at most"
    )


_OPTIONS = (
    click.argument(
        "server", callback=_server, is_eager=True, shell_complete=complete_server
    ),
    click.option("--user", "-u", metavar="NAME", help="The user to log in."),
    click.option(
        "--secure",
        type=click.Choice(list(_WAYS)),
        default="tls",
        show_default=True,
        help="TLS at once (port 995), upgraded with STLS (port 110), or none.",
    ),
    click.option(
        "--verify/--no-verify",
        default=True,
        show_default=True,
        help="Whether to verify the server's identity.",
    ),
    click.option(
        "--cacerts",
        metavar="PATH",
        type=click.Path(),
        help="The folder or file with the certificates to trust.",
    ),
    click.option(
        "--system-trust/--no-system-trust",
        default=False,
        show_default=True,
        help="With --cacerts: whether to trust the system's certificates as well.",
    ),
    click.option(
        "--pin",
        "pins",
        callback=_pins,
        metavar="PIN",
        multiple=True,
        help="The server's key must have this pin, or another --pin; info shows it.",
    ),
    click.option(
        "--crl",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="A file with the lists of certificates that have been revoked.",
    ),
    click.option(
        "--tls-minimum-version",
        "minimum_version",
        type=click.Choice(VERSIONS),
        default=VERSIONS[0],
        show_default=True,
        help="The oldest version of TLS to use.",
    ),
    click.option(
        "--tls-ciphers",
        "ciphers",
        metavar="LIST",
        help="The cipher suites of TLS 1.2 to use, as OpenSSL lists them.",
    ),
    click.option(
        "--auth",
        callback=_auth,
        metavar="NAME",
        default="auto",
        show_default=True,
        help="How to log in: USER, APOP, or a SASL mechanism.",
    ),
    click.option(
        "--authorize-as",
        metavar="NAME",
        help="Whose mailbox to open, with the password of --user (a master user).",
    ),
    click.option(
        "--proxy",
        callback=_proxy,
        metavar="URL",
        help="A SOCKS5 or HTTP proxy: socks5://[user:password@]host[:port], "
        f"http://..., or {FROM_ENVIRONMENT}: what the variable ALL_PROXY has.",
    ),
    click.option(
        "--timeout",
        callback=seconds,
        type=float,
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Time limit for the greeting and for each reply.",
    ),
    click.option(
        "--connect-timeout",
        callback=seconds,
        type=float,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Time limit for connecting, and again for the TLS handshake.",
    ),
    click.option(
        "--pipeline/--no-pipeline",
        default=True,
        show_default=True,
        help="Whether to send several commands at a time.",
    ),
    click.option(
        "--capa/--no-capa",
        default=True,
        show_default=True,
        help="Whether to ask what the server can do.",
    ),
    click.option(
        "--allow-cleartext/--no-allow-cleartext",
        default=False,
        show_default=True,
        help="With --secure none: whether to send a password over the network"
        " unprotected.",
    ),
    click.option(
        "--client-certificate",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help=(
            "A PEM file with certificate and key; --auth EXTERNAL logs in with it.  "
            f"{KEY_PASSWORD_VARIABLE} decrypts the key."
        ),
    ),
    click.option(
        "--password-command",
        metavar="COMMAND",
        help="A program that prints the password.",
    ),
    click.option("--keyring", is_flag=True, help="Take the password from the keyring."),
    click.option(
        "--netrc",
        is_flag=False,
        flag_value="",
        metavar="[FILE]",
        help="Take the password from a netrc file; default: ~/.netrc. Without FILE,"
        " give it after the arguments.",
    ),
    click.option("--trace", is_flag=True, help="Show the protocol messages on stderr."),
)


def access_options(
    function: Callable[..., Any],
    *,
    instead: Callable[[str], bool] | None = None,
    json: bool = True,
) -> Callable[..., Any]:
    """
    Add the common options to a command, whose first argument is the `Access`.

    :param instead: returns whether a text stands for something else than a server,
        which the command understands.
    :param json: whether the command has a result for programs.
    """

    def command(**values: Any) -> Any:
        values["secure"] = _WAYS[values["secure"]]
        none: tuple[None, list[str]] = None, []
        account, warnings = click.get_current_context().meta.get(_ACCOUNT, none)
        known = {
            field.name: values.pop(field.name)
            for field in attrs.fields(Access)
            if field.name != "account"
        }
        access = Access(**known, account=account)
        for warning in warnings:
            access.output.note(warning)
        if instead is None or not instead(access.server):
            # Checked here, before a password is asked for.
            _ = access.address
        return function(access, **values)

    # click keeps the parameters that were added already on the function.
    wrapped: Callable[..., Any] = update_wrapper(command, function)
    wrapped = output_options(wrapped, json=json)
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
