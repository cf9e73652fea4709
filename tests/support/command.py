"""
The command line in trial's own process: click in a thread, its sessions in the reactor.

For what needs a process of its own, there is `tests.support.loopback`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from pop3connect.cli.app import pop3connect
from pop3connect.cli.running import Work
from pop3connect.testing import Script, ScriptedServer

from .loopback import PASSWORD, USERS, LoopbackTestCase

reactor: Any = global_reactor

USER = USERS[0]


def _run(work: Work) -> int:
    return blockingCallFromThread(
        reactor, lambda: Deferred.fromCoroutine(work(reactor))
    )


def told(result: Result) -> str:
    """Return what the only line on stderr says about a server on loopback."""
    [line] = result.stderr.splitlines()
    start, server, text = line.split(": ", 2)
    assert start == "pop3connect", line
    assert server.startswith("127.0.0.1:"), line
    return text


class CommandTestCase(LoopbackTestCase):
    """
    A test case with a demo server on loopback, and the command line.

    :ivar folder: of this test alone.
    """

    def setUp(self) -> None:
        super().setUp()
        self.folder = self.mktemp()
        os.mkdir(self.folder)

    @property
    def drop(self) -> Any:
        """The user's mailbox."""
        return self.factory.drops[USER]

    def scripted(self, *scripts: Script) -> str:
        """Return where the server of these scripts is; it is checked in the end."""
        server = ScriptedServer(*scripts)
        port = server.listen(reactor)
        self.addCleanup(server.check)
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{port.getHost().port}"

    def run_click(
        self,
        *arguments: str,
        answer: str = "",
        environment: Mapping[str, str] | None = None,
        run: Callable[[Work], int] = _run,
    ) -> Deferred[Result]:
        """Run a command line to its end; ``run`` does its work."""
        known = {"POP3CONNECT_PASSWORD": PASSWORD, **(environment or {})}
        return deferToThread(
            CliRunner().invoke,
            pop3connect,
            list(arguments),
            obj=run,
            input=answer,
            env=known,
        )

    def run_command(
        self, command: str, *arguments: str, server: str | None = None, **rest: Any
    ) -> Deferred[Result]:
        """Run a command in the clear, on loopback, logged in."""
        common = (server or self.server, "--secure", "none", "--user", USER)
        return self.run_click(command, *common, *arguments, **rest)
