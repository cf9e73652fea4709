"""
The demo as a service: its CA, its two ports, its tour, and its end.

``twistd -n pop3connect demo`` starts it; `pop3connect.tap` makes it from the
command line.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from rich.console import Console, RenderableType
from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..files import write_whole
from ..redaction import encodable
from ..testing.accounts import Maildrop, portal
from ..testing.server import DemoPOP3Factory
from . import terminal
from .mail import sample_messages
from .tour import ImpostorFactory, Tour, Visit

__all__ = ["CA_FILE", "DEFAULT_ACCOUNT", "DemoAuthority", "DemoService", "Settings"]

_log = Logger()

DEFAULT_ACCOUNT = ("alice", "looking-glass")

CA_FILE = "pop3connect-demo-ca.pem"

_CA_PATH = PurePosixPath("secure/cacerts", CA_FILE)
"""In the folder; written so on every platform."""

_BESIDE = (
    " If another demo is running, start this one with its own ports and folder:"
    " --port 0 --tls-port 0 --folder second"
)

_LOOPBACK = "127.0.0.1"
"""Nothing else is listened on: the server takes passwords in the clear."""

_HOST = "localhost"
_IMPOSTOR = "mail.impostor.example"


@dataclass(frozen=True)
class Settings:
    """
    The options of the command line.

    :ivar port: without TLS and for STLS; 0 for any free port.
    :ivar tls_port: TLS; 0 for any free port.
    :ivar folder: ``secure/cacerts/`` is made in it.
    :ivar accounts: the password of each account; empty means `DEFAULT_ACCOUNT`.
    :ivar once: end after the tour.
    """

    port: int = 1110
    tls_port: int = 1995
    folder: str = "."
    accounts: Mapping[str, str] = field(default_factory=dict)
    once: bool = False


class DemoAuthority:
    """A certificate authority whose key exists only in this process."""

    def __init__(self) -> None:
        # Here, because trustme comes only with the extra "demo".
        import trustme

        self._ca = trustme.CA(
            organization_name="pop3connect", organization_unit_name="demo CA"
        )

    @property
    def pem(self) -> bytes:
        """The CA's certificate, for clients that trust it."""
        return bytes(self._ca.cert_pem.bytes())

    def server(self, *names: str) -> CertificateOptions:
        """Return TLS options for a server with these names."""
        issued = self._ca.issue_cert(*names)
        certificate = PrivateCertificate.loadPEM(
            issued.private_key_and_cert_chain_pem.bytes()
        )
        options = certificate.options()
        assert isinstance(options, CertificateOptions)
        return options


def _number(port: IListeningPort) -> int:
    address = port.getHost()
    assert isinstance(address, IPv4Address)
    return address.port


class DemoService(Service):
    """
    The server, and the tour of it.

    :ivar authority: the CA of the server's certificate.
    :param out: the console for the tour.
    :param err: the stream for an error that prevents the start.
    :param finish: called at most once, with the exit status, when the service has
        ended; it stops the reactor.
    """

    name = "pop3connect demo"

    def __init__(
        self,
        settings: Settings,
        *,
        reactor: Any,
        out: Console,
        err: TextIO,
        finish: Callable[[int], object],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._out = out
        self._err = err
        self._finish = finish
        self.authority = DemoAuthority()
        self._accounts = dict(settings.accounts or [DEFAULT_ACCOUNT])
        self._ports: list[IListeningPort] = []
        self._factories: list[DemoPOP3Factory] = []
        self._impostor = ImpostorFactory()
        self._tour: Deferred[bool] | None = None
        self._hopeless = False

    # -- IService

    def privilegedStartService(self) -> None:
        """Open the ports; below 1024 that needs privileges on some systems."""
        super().privilegedStartService()
        tls = self.authority.server(_HOST, _LOOPBACK)
        drops = {name.encode(): Maildrop(sample_messages()) for name in self._accounts}
        passwords = {
            name.encode(): password.encode()
            for name, password in self._accounts.items()
        }
        accounts = portal(passwords, drops)
        with_stls = DemoPOP3Factory(accounts, tls)
        under_tls = DemoPOP3Factory(accounts)
        self._factories = [with_stls, under_tls]
        option = "--port"
        try:
            self._ports.append(
                self._reactor.listenTCP(
                    self._settings.port, with_stls, interface=_LOOPBACK
                )
            )
            option = "--tls-port"
            self._ports.append(
                self._reactor.listenSSL(
                    self._settings.tls_port, under_tls, tls, interface=_LOOPBACK
                )
            )
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            in_use = getattr(error.socketError, "errno", None) == errno.EADDRINUSE
            self._give_up(
                f"cannot listen on {error.interface} port {error.port}: {why}."
                f" Choose another port with {option} (0 picks a free one)."
                f"{_BESIDE if in_use else ''}"
            )

    def startService(self) -> None:
        """Write the CA's certificate, show the addresses, and start the tour."""
        if not self._factories:
            self.privilegedStartService()
        super().startService()
        if self._hopeless:
            return
        # After the ports, so that a second demo in the same folder does not
        # replace the first one's certificate before it finds the ports taken.
        try:
            certificate = self._publish()
        except OSError as error:
            self._give_up(
                f"cannot write the CA's certificate: {error}."
                " Choose another folder with --folder."
            )
            return
        # Before the first output, because Twisted logs each port that is opened.
        false_name = self.authority.server(_IMPOSTOR)
        self._ports.append(
            self._reactor.listenSSL(0, self._impostor, false_name, interface=_LOOPBACK)
        )
        self._reactor.callWhenRunning(self._start_tour, certificate)

    def stopService(self) -> Deferred[list[None]]:
        """Close the ports and their connections."""
        super().stopService()
        if self._tour is not None:
            self._tour.cancel()
        closed = [
            done for port in self._ports if (done := port.stopListening()) is not None
        ]
        for factory in self._factories:
            factory.drop_connections()
        self._ports = []
        return gatherResults(closed)

    # -- the tour

    @property
    def port(self) -> int:
        """The port without TLS, also for STLS."""
        return _number(self._ports[0])

    @property
    def tls_port(self) -> int:
        """The port for TLS."""
        return _number(self._ports[1])

    def _folder(self) -> Path:
        # Resolved only now, because twistd has changed to its --rundir.
        return Path(self._settings.folder).absolute()

    def _publish(self) -> Path:
        certificate = self._folder() / _CA_PATH
        certificate.parent.mkdir(parents=True, exist_ok=True)
        # In one go, because a client may read the folder now; for clients of any user.
        write_whole(certificate, self.authority.pem, 0o644)
        return certificate

    def _start_tour(self, certificate: Path) -> None:
        if not self.running:
            return
        username, password = next(iter(self._accounts.items()))
        visit = Visit(
            host=_HOST,
            port=self.port,
            tls_port=self.tls_port,
            username=username,
            password=password,
            cacerts=str(certificate.parent),
            messages=sample_messages(),
            impostor_port=_number(self._ports[2]),
            impostor=self._impostor,
        )
        self._tour = Deferred.fromCoroutine(self._show(visit))
        self._tour.addCallback(self._toured)
        self._tour.addErrback(self._tour_broke)

    async def _show(self, visit: Visit) -> bool:
        self._introduce()
        return await Tour(visit, self._say, self._reactor).run()

    def _toured(self, worked: bool) -> bool:
        self._tour = None
        if self._settings.once:
            self._finish(0 if worked else 1)
        else:
            self._ports.pop().stopListening()  # the impostor's
            self._invite()
        return worked

    def _tour_broke(self, failure: Failure) -> None:
        # Cancelled: the service is stopping.  Otherwise output may be impossible (for
        # example because the pipe behind stdout was closed).
        if not failure.check(CancelledError):
            _log.failure("the tour broke off", failure)
            if self._settings.once:
                self._finish(1)

    def _give_up(self, why: str) -> None:
        self._hopeless = True
        _log.error("{why}", why=why)
        shown = encodable(f"pop3connect demo: {why}", self._err)
        print(shown, file=self._err, flush=True)
        self._finish(1)

    # -- output

    def _say(self, what: RenderableType, *, whole: bool = False) -> None:
        if not self.running:
            raise CancelledError("the service was stopped during the tour")
        self._out.print(what, soft_wrap=whole)

    def _introduce(self) -> None:
        self._say(terminal.title("pop3connect demo"))
        self._say(
            "A POP3 server on this computer, and a tour of what you can do with it."
        )
        self._say("")
        self._say(
            terminal.pairs(
                [
                    ("TLS", f"{_HOST}:{self.tls_port}"),
                    ("plain, STLS", f"{_HOST}:{self.port}"),
                    *(
                        ("account", f"{name}, {self._password_shown()}")
                        for name in self._accounts
                    ),
                    ("its CA", str(_CA_PATH)),
                ]
            )
        )

    def _password_shown(self) -> str:
        # A password that the user chose is not shown.
        if self._settings.accounts:
            return "password as you gave it"
        return f"password {DEFAULT_ACCOUNT[1]}"

    def _invite(self) -> None:
        user = shlex.quote(next(iter(self._accounts)))
        if not self._settings.accounts:
            user = ":".join(DEFAULT_ACCOUNT)
        self._say("")
        self._say("The server goes on until Ctrl-C. Try it from another terminal:")
        self._say("")
        # The folder may be long, so it has a line of its own, and no line of the
        # commands is wrapped.
        for line in (
            f"cd {shlex.quote(str(self._folder()))}",
            f"curl --cacert {_CA_PATH} \\",
            f"  --user {user} pop3s://{_HOST}:{self.tls_port}/2",
        ):
            self._say(terminal.command(line), whole=True)
        self._say("")
        self._say("Then: the first program in README.rst, and docs/tutorial.rst.")
