"""
The engine with the reactor, its threads, and servers on the loopback.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from pop3connect.collect.lock import InUseError
from pop3connect.collect.outcome import Outcome
from pop3connect.collect.service import CollectService
from pop3connect.collect.settings import AccountSettings, Config, DestinationSettings
from pop3connect.destinations import Mail
from pop3connect.errors import POP3Error

from .engine import FaultyServer, hang, message

reactor: Any = installed


class LoopbackTests(TestCase):
    """
    Files are written in threads, and the journal has a thread of its own.
    """

    timeout = 60

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir()
        self.servers: list[FaultyServer] = []
        self.accounts: list[AccountSettings] = []
        self.destinations = [
            DestinationSettings(
                name="box", kind="maildir", path=self.root / "mail" / "{account}"
            )
        ]

    def serve(self, *messages: bytes, name: str = "a", **options: Any) -> FaultyServer:
        server = FaultyServer(messages)
        port = server.listen(reactor)
        address: Any = port.getHost()
        self.addCleanup(port.stopListening)
        self.servers.append(server)
        options.setdefault("to", ("box",))
        self.accounts.append(
            AccountSettings(
                name=name,
                server=f"127.0.0.1:{address.port}",
                user="ada",
                password="lovelace",
                secure="none",
                **options,
            )
        )
        return server

    def service(self, **options: Any) -> CollectService:
        config = Config(
            state=self.root / "state",
            accounts=self.accounts,
            destinations=self.destinations,
        )
        return CollectService(config, reactor=reactor, **options)

    def mail(self, name: str = "a") -> list[bytes]:
        return sorted(
            file.read_bytes().replace(b"\n", b"\r\n")
            for file in (self.root / "mail" / name / "new").glob("*")
        )

    async def until(self, happened: Any) -> None:
        while not happened():
            await deferLater(reactor, 0.02, lambda: None)

    async def test_several_accounts_at_once(self) -> None:
        many = {name: [message(n) for n in range(300)] for name in ("a", "b", "c")}
        for name, messages in many.items():
            self.serve(*messages, name=name, after="delete")
        outcomes: dict[str, Outcome] = await self.service().run_once()
        for name, messages in many.items():
            self.assertIsNone(outcomes[name].error)
            self.assertEqual(outcomes[name].deleted, 300)
            self.assertEqual(self.mail(name), sorted(messages))
        self.assertEqual([server.messages for server in self.servers], [[], [], []])

    async def test_locked_mboxes_do_not_hold_up_other_destinations(self) -> None:
        box = DestinationSettings(
            name="mbox",
            kind="mbox",
            path=self.root / "{account}.mbox",
            lock_timeout=30,
        )
        self.destinations.append(box)
        for number in range(18):
            name = f"locked{number}"
            self.serve(message(1), name=name, to=("mbox",))
            (self.root / f"{name}.mbox.lock").write_text("another program's")
        service = self.service()
        await service.startService()
        self.addCleanup(service.stopService)
        await self.until(lambda: all(server.heard for server in self.servers))
        await deferLater(reactor, 0.5)
        self.serve(message(2), name="free")
        await service.add_account(self.accounts[-1])
        began = reactor.seconds()
        await self.until(lambda: self.mail("free"))
        self.assertLess(reactor.seconds() - began, 10)

    async def test_service_runs_and_stops(self) -> None:
        server = self.serve(message(1), interval=1)
        service = self.service()
        await service.startService()
        await self.until(lambda: len(self.mail()) == 1)
        server.deliver(message(2))
        await self.until(lambda: len(self.mail()) == 2)
        with self.assertRaises(InUseError):
            await self.service().startService()
        await service.stopService()
        # The lock is free.
        await self.service().run_once()

    async def test_spool_and_two_destinations(self) -> None:
        got: list[bytes] = []

        class App:
            async def deliver(self, mail: Mail) -> None:
                got.append(mail.read())

        messages = [message(number) for number in range(50)]
        server = self.serve(*messages, to=("box", "app"), after="delete")
        service = self.service(destinations={"app": App()})
        outcomes = await service.run_once()
        self.assertIsNone(outcomes["a"].error)
        self.assertEqual(sorted(got), sorted(messages))
        self.assertEqual(self.mail(), sorted(messages))
        self.assertEqual(server.messages, [])
        self.assertEqual(list((self.root / "state" / "spool").glob("*")), [])

    async def test_single_run_that_is_cancelled_closes_everything(self) -> None:
        server = self.serve(*[message(number) for number in range(5)])
        server.faults["RETR 3"] = hang
        service = self.service()
        running = Deferred.fromCoroutine(service.run_once())
        await self.until(lambda: server.count("RETR") > 2)
        running.cancel()
        with self.assertRaises((CancelledError, POP3Error)):
            await running
        await self.until(lambda: not server.in_use)
        server.faults.clear()
        outcomes = await self.service().run_once()
        self.assertIsNone(outcomes["a"].error)
        self.assertEqual(len(self.mail()), 5)
