"""
The command line of ``twistd pop3connect``, and the services that it makes.

twistd imports this module for its command line; the modules of a service, which cost
more, are imported only when the service is made.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from twisted.application.service import IService
from twisted.python import usage

if TYPE_CHECKING:
    from .demo.service import Settings
    from .watch_config import WatchConfig

__all__ = ["DemoOptions", "Options", "WatchOptions", "makeService"]


def _port(option: str, value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) < 6 and int(value) < 65536:
        return int(value)
    raise usage.UsageError(f"{option} takes a number from 0 to 65535, not {value!r}")


_COMMAND = "COMMAND [options]"


class DemoOptions(usage.Options):
    """``twistd pop3connect demo``."""

    synopsis = "[options]"

    longdesc = (
        "A POP3 server on loopback with ten messages in it, and a tour of what"
        " pop3connect does with it: in the clear, TLS, STLS, an impostor, a wrong"
        " password. The tour is written to stdout; with 'twistd -n --logfile FILE'"
        " the log goes elsewhere. The server makes its own CA and puts the CA's"
        " certificate into secure/cacerts/ in the folder. It continues to serve"
        " after the tour, until Ctrl-C; deleted messages are back at the next start."
    )

    optParameters: ClassVar[list[list[object]]] = [
        ["port", "p", "1110", "without TLS, and STLS; 0 picks a free port"],
        ["tls-port", "t", "1995", "TLS; 0 picks a free port"],
        ["folder", "f", ".", "where secure/cacerts/ is made (seen from --rundir)"],
    ]

    optFlags: ClassVar[list[list[object]]] = [
        ["once", "1", "end after the tour; exit status 0 only if all of it worked"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, str] = {}

    def opt_account(self, account: str) -> None:
        """NAME:PASSWORD of an account, instead of alice's. Repeatable."""
        name, colon, password = account.partition(":")
        if not (colon and name and password):
            raise usage.UsageError("--account takes NAME:PASSWORD, none of them empty")
        if not account.isprintable() or " " in name:
            raise usage.UsageError(
                "--account: no control characters, and no blank in the name"
            )
        if name in self.accounts:
            raise usage.UsageError(f"--account: {name} is given twice")
        self.accounts[name] = password

    opt_a = opt_account

    def postOptions(self) -> None:
        """Check the options together, and that all packages are installed."""
        for name in ("port", "tls-port"):
            self[name] = _port(f"--{name}", self[name])
        if self["port"] == self["tls-port"] != 0:
            raise usage.UsageError("--port and --tls-port cannot be the same")
        if find_spec("trustme") is None:
            raise usage.UsageError(
                "the demo makes certificates with trustme, which is not installed:"
                " pip install 'pop3connect[demo]'"
            )

    def settings(self) -> Settings:
        """Return the settings that were given."""
        from .demo.service import Settings

        return Settings(
            port=self["port"],
            tls_port=self["tls-port"],
            folder=self["folder"],
            accounts=self.accounts,
            once=bool(self["once"]),
        )


class WatchOptions(usage.Options):
    """``twistd pop3connect watch``."""

    synopsis = "--config FILE [options]"

    longdesc = (
        "Looks into the mailboxes that the file names, each at its interval, and"
        " tells of new messages: in the log, and by a hook, which is a command or a"
        " Python function. Nothing is deleted. The file is TOML: 'state' is the"
        " folder that remembers what has been seen, and each [[account]] has 'name',"
        " 'server', 'user' and one of 'password_file', 'password_command',"
        " 'password_env' and 'password'; the page \"Under twistd\" of the documentation"
        " has the other keys."
    )

    optParameters: ClassVar[list[list[object]]] = [
        ["config", "c", None, "the configuration"],
    ]

    optFlags: ClassVar[list[list[object]]] = [
        ["check", None, "check the configuration only; exit status 0 if it is good"],
    ]

    config: WatchConfig

    def postOptions(self) -> None:
        """Read the configuration."""
        if not self["config"]:
            raise usage.UsageError("--config is missing: the file with the accounts")
        try:
            self.config = self._read()
        except usage.UsageError as error:
            if not self["check"]:
                raise
            # Not left to twistd, whose exit status was 0 in older releases.
            sys.exit(str(error))
        if self["check"]:
            self._report()
            sys.exit(0)

    def _report(self) -> None:
        from .redaction import encodable
        from .watch_password import EXPOSED, exposed

        warnings = [f"{file}: {EXPOSED}" for file in exposed(self.config)]
        for warning in warnings:
            print(encodable(warning, sys.stderr), file=sys.stderr)  # noqa: T201
        verdict = "all good"
        if warnings:
            noun = "warning" if len(warnings) == 1 else "warnings"
            verdict = f"good, {len(warnings)} {noun}"
        text = f"{self['config']}: {len(self.config.accounts)} account(s), {verdict}"
        print(encodable(text, sys.stdout))  # noqa: T201

    def _read(self) -> WatchConfig:
        from .errors import UsageError
        from .watch_config import read_config
        from .watch_hook import check_hooks
        from .watch_password import check_passwords

        try:
            config = read_config(Path(self["config"]))
            check_hooks(config)
            if self["check"]:
                # Without --check, a password may appear as late as the login.
                check_passwords(config)
        except UsageError as error:
            raise usage.UsageError(str(error)) from error
        return config


class Options(usage.Options):
    """``twistd pop3connect``."""

    synopsis = _COMMAND

    longdesc = "POP3 for Twisted. See 'twistd pop3connect COMMAND --help'."

    subCommands: ClassVar[list[list[object]]] = [
        ["demo", None, DemoOptions, "Serve a demo mailbox, and take a tour of it"],
        ["watch", None, WatchOptions, "Tell of new mail in mailboxes"],
    ]

    def getSynopsis(self) -> str:
        """Leave COMMAND out if a command adds its synopsis to this one."""
        synopsis = super().getSynopsis()
        return synopsis.removesuffix(f" {_COMMAND}") if self.subCommand else synopsis

    def postOptions(self) -> None:
        """Require a command."""
        if not self.subCommand:
            commands = ", ".join(str(command[0]) for command in self.subCommands)
            raise usage.UsageError(f"the command is missing: give one of {commands}")


def makeService(options: Options) -> IService:
    """Return the service that the command line requests."""
    makers: dict[str, Callable[[Any], IService]] = {
        "demo": _make_demo,
        "watch": _make_watch,
    }
    assert options.subCommand is not None  # postOptions saw to it
    return makers[options.subCommand](options.subOptions)


def _make_demo(options: DemoOptions) -> IService:
    from .demo.service import DemoService

    reactor = _reactor()
    # twistd replaces sys.stdout by its log when it starts the service; now it is still
    # the terminal.
    return DemoService(
        options.settings(),
        reactor=reactor,
        out=sys.stdout,
        err=sys.stderr,
        finish=partial(_finish, reactor, sys.stdout),
    )


def _make_watch(options: WatchOptions) -> IService:
    from .watch import WatchService

    return WatchService(options.config, reactor=_reactor())


def _reactor() -> Any:
    """Return the reactor that twistd will run, with a clock that is never set back."""
    # Not at the top: twistd first installs the reactor that its --reactor names.
    from twisted.internet import reactor

    from .reactors import steady_time

    steady_time(reactor)
    return reactor


def _finish(reactor: Any, out: TextIO, status: int) -> None:
    """
    End the process with this exit status, once twistd has cleaned up.

    twistd itself ends with the exit status 0 or by a signal: it prints an exception
    that leaves the reactor, also that of ``sys.exit``, and ignores it.  After twistd's
    own work (pid file, log) come the functions of atexit, and ``os._exit`` sets the
    status there.
    """
    if status:
        atexit.register(_exit, out, status)
    # If the reactor does not run yet, it stops as soon as it does.
    reactor.callWhenRunning(reactor.stop)


def _exit(out: TextIO, status: int) -> None:
    try:
        out.flush()
    finally:
        os._exit(status)
