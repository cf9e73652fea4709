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
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TextIO

from twisted.application.service import IService
from twisted.python import usage

if TYPE_CHECKING:
    from .collect.settings import AccountSettings, Config
    from .demo.service import Settings

__all__ = ["CollectOptions", "DemoOptions", "Options", "makeService"]


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
        " password. The tour is written to stdout, and problems to stderr; 'twistd -n"
        " --logfile FILE' writes a whole log. The server makes its own CA and puts its"
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
        for needed in ("trustme", "rich"):
            if find_spec(needed) is None:
                raise usage.UsageError(
                    f"the demo needs {needed}, which is not installed:"
                    " pip install 'pop3connect[demo]'"
                )
        # Options are dictionaries; those without a value are false.
        twistd = None if self.parent is None else self.parent.parent
        if twistd is not None:
            from .demo.twistd import already_running, keep_log_off_stdout

            problem = already_running(twistd)
            if problem:
                _tell(problem)
                sys.exit(1)
            keep_log_off_stdout(twistd)

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


class CollectOptions(usage.Options):
    """``twistd pop3connect collect``."""

    synopsis = "--config FILE [options]"

    longdesc = (
        "Fetches the mail of the accounts that the file names, each at its interval,"
        " and delivers each message once: to a Maildir, an mbox, a command, a Python"
        " function or a table. The file is TOML: 'state' is the folder that remembers"
        " what was fetched, each [destination.NAME] says where mail goes, and each"
        " [[account]] has 'name', 'server', 'user' and one of 'password_file',"
        " 'password_command', 'password_env', 'password_keyring' and 'password'; the"
        ' page "The collector" of the documentation has the other keys. SIGHUP reads'
        " the file again; SIGTERM ends the collector within ten seconds."
        " 'pop3connect accounts --help' and 'pop3connect messages --help' show what an"
        " administrator can do meanwhile."
    )

    optParameters: ClassVar[list[list[object]]] = [
        ["config", "c", None, "the configuration"],
        ["database", None, "", "URL of the database, instead of that in the file"],
        ["machine", None, None, "name of this machine [default: its host name]"],
    ]

    optFlags: ClassVar[list[list[object]]] = [
        ["check", None, "check the configuration only; exit status 0 if it is good"],
        ["login", None, "with --check: log in to each account once as well"],
        ["once", None, "look at each account now, deliver what waits, and end"],
    ]

    config: Config

    def postOptions(self) -> None:
        """Read the configuration, and check it with ``--check``."""
        if not self["config"]:
            raise usage.UsageError("--config is missing: the file with the accounts")
        if self["login"] and not self["check"]:
            raise usage.UsageError("--login goes with --check")
        if self["once"] and self["check"]:
            raise usage.UsageError("--check and --once exclude each other")
        if find_spec("sqlalchemy") is None or find_spec("alembic") is None:
            raise usage.UsageError(
                "the collector keeps its journal with SQLAlchemy and Alembic, which are"
                " not installed: pip install 'pop3connect[collect]'"
            )
        from .errors import POP3Error

        # twistd changes the folder to that of --rundir.
        self._file = Path(self["config"]).absolute()
        try:
            self.config = self.read()
            if self["check"]:
                self._check()
        except (POP3Error, OSError) as error:
            # Not left to twistd, whose exit status is another in each release.
            _give_up(error)
        if self["check"]:
            sys.exit(0)

    def read(self) -> Config:
        """
        Read the configuration; SIGHUP does that again.

        :raises UsageError: it cannot be used.
        """
        from .collect.config import check_functions, read_config

        config = read_config(self._file, database=self["database"])
        check_functions(config)
        return config

    def _check(self) -> None:
        from .collect.config import check_config, warnings

        check_config(self.config)
        found = warnings(self.config)
        for warning in found:
            _tell(warning)
        verdict = "all good"
        if found:
            noun = "warning" if len(found) == 1 else "warnings"
            verdict = f"good, {len(found)} {noun}"
        if self["login"]:
            self._log_in()
        _say(f"{self['config']}: {len(self.config.accounts)} account(s), {verdict}")

    def _log_in(self) -> None:
        """Log in to each account; end the process if one fails."""
        from twisted.internet.task import react

        from .cli.exits import exit_status
        from .collect.logins import try_logins
        from .collect.wording import words

        # A session of twistd's would write a pid file, and have no exit status.
        status = 0

        def told(account: AccountSettings, error: Exception | None) -> None:
            nonlocal status
            if error is None:
                _say(f"{account.name}: logged in")
                return
            status = status or exit_status(error)
            _tell(f"{account.name}: {words(error)}")

        async def main(reactor: Any) -> None:
            await try_logins(self.config, reactor, told)
            sys.exit(status)

        try:
            react(main, (), _reactor())
        except SystemExit as ended:
            if ended.code:
                raise


class Options(usage.Options):
    """``twistd pop3connect``."""

    synopsis = _COMMAND

    longdesc = "POP3 for Twisted. See 'twistd pop3connect COMMAND --help'."

    subCommands: ClassVar[list[list[object]]] = [
        ["demo", None, DemoOptions, "Serve a demo mailbox, and take a tour of it"],
        ["collect", None, CollectOptions, "Fetch and deliver the mail of mailboxes"],
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
        "collect": _make_collect,
    }
    assert options.subCommand is not None  # postOptions saw to it
    return makers[options.subCommand](options.subOptions)


def _make_demo(options: DemoOptions) -> IService:
    from .demo.service import DemoService
    from .demo.terminal import terminal

    reactor = _reactor()
    # twistd replaces sys.stdout by its log when it starts the service; now it is still
    # the terminal.
    return DemoService(
        options.settings(),
        reactor=reactor,
        out=terminal(sys.stdout),
        err=sys.stderr,
        finish=partial(_finish, reactor, sys.stdout),
    )


def _make_collect(options: CollectOptions) -> IService:
    from .garbage import few_searches

    with few_searches():
        from .cli.exits import exit_status
        from .collect.program import CollectProgram, on_hangup
        from .collect.service import CollectService
        from .collect.tools import leave_threads

    reactor = _reactor()
    # A function of the user may wait in one of them, for ever.
    pool = reactor.getThreadPool()
    leave_threads(pool)

    def make(config: Config, died: Callable[[BaseException], object]) -> CollectService:
        machine = options["machine"] or ""
        return CollectService(config, reactor=reactor, died=died, machine=machine)

    # twistd replaces sys.stderr by its log when it starts the service.
    return CollectProgram(
        options.config,
        make,
        read=options.read,
        finish=partial(_finish, reactor, sys.stdout),
        status=exit_status,
        tell=partial(_tell, file=sys.stderr),
        once=bool(options["once"]),
        on_hangup=partial(on_hangup, reactor),
        # The reactor waits for those in this list.
        let_go=pool.threads.clear,
    )


def _reactor() -> Any:
    """Return the reactor that twistd will run, with a clock that is never set back."""
    # Not at the top: twistd first installs the reactor that its --reactor names.
    from twisted.internet import reactor

    from .reactors import steady_time

    steady_time(reactor)
    return reactor


def _say(text: str) -> None:
    from .redaction import encodable

    print(encodable(text, sys.stdout))  # noqa: T201


def _tell(text: str, file: TextIO | None = None) -> None:
    from .redaction import encodable

    file = file or sys.stderr
    print(encodable(f"pop3connect: {text}", file), file=file)


def _give_up(error: Exception) -> NoReturn:
    """End the process before the reactor runs."""
    from .cli.exits import exit_status
    from .collect.wording import words

    # Several problems of one configuration are a line each.
    for line in str(error).splitlines() if "\n" in str(error) else [words(error)]:
        _tell(line)
    sys.exit(exit_status(error))


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
