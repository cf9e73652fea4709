"""
``discover --autoconfig``.
"""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from pop3connect.cli.app import pop3connect
from pop3connect.cli.exits import Exit
from pop3connect.cli.running import Work

from ..support.autoconfig import ProviderTestCase, config, server
from ..support.dns import Answers, serve, srv

reactor: Any = global_reactor

FIRST = "autoconfig.example.com/mail/config-v1.1.xml"


class AutoconfigTests(ProviderTestCase):
    """
    With a provider and a DNS server on loopback.
    """

    def run_discover(self, *options: str) -> Deferred[Result]:
        service = "_pop3s._tcp.example.com"
        records = [srv(service, "pop.example.com")]
        port, listening = serve(reactor, Answers({service: records}))
        for each in listening:
            self.addCleanup(each.stopListening)

        def run(work: Work) -> int:
            return blockingCallFromThread(
                reactor, lambda: Deferred.fromCoroutine(work(self.detour))
            )

        arguments = ["discover", "ada@example.com", "--dns", f"127.0.0.1:{port}"]
        return deferToThread(
            CliRunner().invoke, pop3connect, [*arguments, *options], obj=run
        )

    async def test_servers_of_the_provider_come_after_those_of_the_dns(self) -> None:
        more = "<username>%EMAILLOCALPART%</username>"
        self.answers[FIRST] = config(
            server("pop.example.com"),
            server("b.example.com", "110", "STARTTLS", more=more),
        )
        result = await self.run_discover("--autoconfig")
        self.assertEqual(
            result.stdout,
            "pop.example.com:995  --secure tls   --user ada@example.com\n"
            "b.example.com:110    --secure stls  --user ada\n",
        )
        self.assertEqual((result.stderr, result.exit_code), ("", Exit.DONE))
        result = await self.run_discover("--autoconfig", "--json")
        shown = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual([each["source"] for each in shown], ["srv", "autoconfig"])

    async def test_name_that_a_shell_would_run_is_quoted(self) -> None:
        """The options are for copying, and the provider chooses the user name."""
        more = "<username>$(id);ada</username>"
        self.answers[FIRST] = config(server("b.example.com", more=more))
        result = await self.run_discover("--autoconfig")
        self.assertIn("--user '$(id);ada'\n", result.stdout)

    async def test_without_the_option_the_provider_is_not_asked(self) -> None:
        result = await self.run_discover()
        self.assertEqual(result.stdout.count("\n"), 1)
        self.assertEqual(self.detour.asked, [])
