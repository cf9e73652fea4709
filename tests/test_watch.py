"""The watch: what it tells, when, and how it lives with what goes wrong."""

from __future__ import annotations

import json
import os
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionRefusedError as RefusedError
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from pop3connect import UsageError, connect
from pop3connect.testing import MailboxServer, Script, ScriptedServer
from pop3connect.watch import MAX_NEW, REFUSED_WAIT, STAGGER, WatchService
from pop3connect.watch_config import MAX_INTERVAL, PasswordSource, read_config
from pop3connect.watch_hook import NewMessage
from pop3connect.watch_password import EXPOSED, find_password
from pop3connect.watch_run import GRACE
from pop3connect.watch_state import SeenFile

from .support.loopback import ROOT

INTERVAL = 100

HOOK = f"{__name__}:hook"

told: list[NewMessage] = []

answer: Callable[[NewMessage], Any]


def hook(message: NewMessage) -> Any:
    """Note what the watch tells; the answer is the test's."""
    told.append(message)
    return answer(message)


class Stubborn:
    """A hook that tries again, whatever happens to it."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.waiting: Deferred[None] = Deferred()

    async def hook(self) -> None:
        while True:
            try:
                await self.waiting
            except CancelledError:
                self.cancelled += 1
                self.waiting = Deferred()


class Process:
    """What a command looks like to the one who runs it."""

    def __init__(self, protocol: Any, arguments: tuple[Any, ...]) -> None:
        self.protocol = protocol
        self.program, self.command, self.environment, self.folder = arguments
        self.given = b""
        self.signals: list[str] = []
        self.stubborn = False
        self.over = self.closed = self.lost = False

    def write(self, data: bytes) -> None:
        self.given += data

    def closeStdin(self) -> None:
        self.closed = True

    def loseConnection(self) -> None:
        """Standard input stays open: what is in it is not read by anybody."""
        self.lost = True

    def signalProcess(self, name: str) -> None:
        if self.over:
            raise ProcessExitedAlready()
        self.signals.append(name)
        if name == "KILL" or not self.stubborn:
            self.end(signal=15)

    def end(self, status: int = 0, signal: int | None = None) -> None:
        how = ProcessTerminated(status, signal) if status or signal else ProcessDone(0)
        self.exit(how)
        self._gone(how)

    def exit(self, how: Exception) -> None:
        self.over = True
        self.protocol.processExited(Failure(how))

    def _gone(self, how: Exception) -> None:
        self.protocol.processEnded(Failure(how))


class Reactor(Clock):
    """A clock that can start processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.problem: Exception | None = None

    def spawnProcess(self, protocol: Any, *arguments: Any) -> None:
        if self.problem is not None:
            raise self.problem
        self.processes.append(Process(protocol, arguments))
        protocol.makeConnection(self.processes[-1])


def mail(subject: str) -> bytes:
    return f"From: ann@example.com\r\nSubject: {subject}\r\n\r\nhi\r\n".encode()


class WatchTestCase(SynchronousTestCase):
    """A watch of ada's mailbox, and what it says to the log."""

    def setUp(self) -> None:
        global answer
        told.clear()
        answer = succeed
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.state = self.folder / "state" / "ada.json"
        self.clock = Reactor()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)
        self.errors: list[Exception] = []

    def note(self, event: LogEvent) -> None:
        if event["log_namespace"].startswith("pop3connect.watch"):
            self.lines.append(formatEvent(event))

    def said(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines

    def service(
        self,
        server: MailboxServer | ScriptedServer,
        more: str = "",
        *,
        hook: str = f'hook = "{HOOK}"',
        password: str = 'password = "lovelace"',
    ) -> WatchService:
        file = self.folder / "watch.toml"
        file.write_text(
            f'state = "state"\n[[account]]\nname = "ada"\nserver = "pop.example.com"\n'
            f'user = "ada"\nsecure = "none"\ninterval = {INTERVAL}\n'
            f"{password}\n{hook}\n{more}\n"
        )
        file.chmod(0o600)

        def connect_in_memory(*arguments: Any, **options: Any) -> Any:
            if self.errors:
                return self.refusing(*arguments, **options)
            return connect(*arguments, **options, endpoint=server.endpoint)

        service = WatchService(
            read_config(file), reactor=self.clock, connect=connect_in_memory
        )
        self.addCleanup(service.stopService)
        return service

    def refusing(self, *arguments: Any, **options: Any) -> Any:
        endpoint = Nowhere(self.errors.pop(0))
        return connect(*arguments, **options, endpoint=endpoint)

    def advance(self, seconds: float = 0) -> None:
        """Let time pass, and what is due happen."""
        self.server.advance(seconds)

    server: MailboxServer | ScriptedServer

    def mailbox(self, *messages: bytes) -> MailboxServer:
        server = MailboxServer(messages, clock=self.clock)
        self.server = server
        return server

    def script(self, *scripts: Script) -> ScriptedServer:
        server = ScriptedServer(*scripts, clock=self.clock)
        self.addCleanup(server.check)
        self.server = server
        return server

    def start(self, service: WatchService) -> WatchService:
        service.startService()
        self.advance()
        return service

    def patch_environment(self, name: str, value: str) -> None:
        os.environ[name] = value
        self.addCleanup(os.environ.pop, name)

    def remembered(self) -> list[str]:
        seen: list[str] = json.loads(self.state.read_text())["seen"]
        return seen


class Nowhere:
    """An endpoint that leads nowhere."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def connect(self, factory: object) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        answer.errback(Failure(self.error))
        return answer


class TellTests(WatchTestCase):
    """New mail."""

    def test_messages_at_the_first_look_are_not_reported(self) -> None:
        """What is there at the first look is seen, unless told otherwise."""
        self.start(self.service(self.mailbox(mail("old"))))
        self.assertEqual(told, [])
        self.assertEqual(
            self.said(), ["ada: 1 messages at the first look; not reported"]
        )
        self.assertEqual(len(self.remembered()), 1)

    def test_report_existing_reports_messages_at_the_first_look(self) -> None:
        self.start(self.service(self.mailbox(mail("old")), "report_existing = true"))
        self.assertEqual([message.subject for message in told], ["old"])

    def test_new_message_is_reported_once_even_after_a_restart(self) -> None:
        """A new message is told once, at the next look, and not after a restart."""
        server = self.mailbox(mail("old"))
        service = self.start(self.service(server))
        self.said()
        server.deliver(mail("new"))
        self.advance(INTERVAL - 1)
        self.assertEqual(told, [])
        self.advance(1)
        [message] = told
        self.assertEqual(
            (message.account, message.number, message.subject, message.sender),
            ("ada", 2, "new", "ann@example.com"),
        )
        self.assertEqual(message.size, len(mail("new")))
        self.assertEqual(message.uid, self.remembered()[1])
        self.assertEqual(message.header, mail("new")[:-4])
        size = len(mail("new"))
        self.assertEqual(
            self.said(),
            [f"ada: message 2 is new: {size} octets, from ann@example.com: new"],
        )
        self.advance(INTERVAL)
        self.successResultOf(service.stopService())
        self.start(self.service(server))
        self.assertEqual(len(told), 1)
        self.assertEqual(len(server.messages), 2)

    def test_the_mailbox_is_free_when_the_hook_runs(self) -> None:
        """So a hook can fetch the message."""
        server = self.mailbox(mail("new"))
        global answer
        counts: list[int] = []

        async def fetch(message: NewMessage) -> None:
            async with await server.connect() as handle:
                counts.append((await handle.stat()).count)

        answer = fetch
        self.start(self.service(server, "report_existing = true"))
        self.assertEqual(counts, [1])
        self.assertEqual(len(self.remembered()), 1)

    def test_failed_hook_runs_again_for_its_message_only(self) -> None:
        """Only the message that it failed for."""
        global answer

        def fail(message: NewMessage) -> None:
            if message.number == 1:
                raise RuntimeError("no ticket today")

        answer = fail
        server = self.mailbox(mail("one"), mail("two"))
        self.start(self.service(server, "report_existing = true"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertIn("ada: message 1: the hook failed", self.said()[1])
        self.assertEqual(len(self.remembered()), 1)
        answer = succeed
        self.advance(INTERVAL)
        self.assertEqual([message.number for message in told], [1, 2, 1])
        self.advance(INTERVAL)
        self.assertEqual(len(told), 3)

    def test_hook_over_its_timeout_is_given_up_and_the_next_runs(self) -> None:
        """It is given up after its time, and the next message is told."""
        global answer
        waiting: Deferred[None] = Deferred()
        answer = lambda message: waiting if message.number == 1 else None  # noqa: E731
        server = self.mailbox(mail("one"), mail("two"))
        self.start(self.service(server, "report_existing = true\nhook_timeout = 5"))
        self.advance(4)
        self.assertEqual(len(told), 1)
        self.advance(1)
        self.assertEqual(len(told), 2)
        self.assertIn(
            f"ada: message 1: hook: {HOOK}: took longer than 5 seconds", self.said()
        )
        self.assertEqual(len(self.remembered()), 1)

    def test_hook_that_succeeds_when_cancelled_counts_as_done(self) -> None:
        """What it did in the end counts."""
        global answer
        waiting: Deferred[None] = Deferred(lambda each: each.callback(None))
        answer = lambda message: waiting  # noqa: E731
        server = self.mailbox(mail("one"))
        self.start(self.service(server, "report_existing = true\nhook_timeout = 5"))
        self.advance(5)
        self.assertEqual(len(self.remembered()), 1)

    def test_hook_that_ignores_cancellation_is_abandoned_after_a_grace(self) -> None:
        """It has the time that a command has; then the next message is told."""
        global answer
        stubborn: list[Stubborn] = []

        def answer(message: NewMessage) -> object:
            if message.number == 2:
                return None
            stubborn.append(Stubborn())
            return stubborn[-1].hook()

        server = self.mailbox(mail("one"), mail("two"))
        service = self.service(server, "report_existing = true\nhook_timeout = 5")
        self.start(service)
        self.advance(5)
        self.assertEqual((len(told), stubborn[0].cancelled), (1, 1))
        self.advance(GRACE)
        self.assertEqual(len(told), 2)
        self.assertIn(
            f"ada: message 1: hook: {HOOK}: took longer than 5 seconds", self.said()
        )
        self.advance(INTERVAL)
        self.assertEqual(len(told), 3)
        stopping = service.stopService()
        self.assertNoResult(stopping)
        self.advance(GRACE)
        self.successResultOf(stopping)
        self.assertEqual(stubborn[1].cancelled, 1)
        self.assertEqual(
            self.said(), ["ada: message 1 is new: 43 octets, from ann@example.com: one"]
        )
        # Whatever comes of them is not told to anybody.
        for one in stubborn:
            one.waiting.errback(ValueError("too late"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_a_hook_new_mail_is_logged_and_remembered(self) -> None:
        self.start(
            self.service(self.mailbox(mail("x")), "report_existing = true", hook="")
        )
        self.assertEqual(len(self.said()), 1)
        self.assertEqual(len(self.remembered()), 1)

    def test_control_characters_in_a_header_cannot_forge_log_lines(self) -> None:
        """A header cannot forge lines of the log."""
        server = self.mailbox(b"Subject: =?utf-8?q?a=0Ab=1B[2J=00?=\r\n\r\n")
        self.start(self.service(server, "report_existing = true"))
        [line] = self.said()
        self.assertTrue(line.isprintable(), repr(line))
        self.assertTrue(line.endswith("from (nobody): " + told[0].subject), line)
        self.assertTrue(told[0].subject.startswith("a"), told[0].subject)

    def test_header_fields_are_unfolded_and_decoded_where_possible(self) -> None:
        """What comes, comes as a line; what cannot be decoded as it is."""
        for header, subject, sender in (
            (b"", "", ""),
            (b"no header at all", "", ""),
            (b"SUBJECT: a\r\n b\r\nSubject: c", "a b", ""),
            (b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße", ""),
            ("Subject: Grüße".encode(), "Grüße", ""),
            (b"Subject: \xff", "ÿ", ""),
            (b"Subject: =?utf-7?q?+2D0-?=", "=?utf-7?q?+2D0-?=", ""),
            (b'From: "', "", '"'),
            (b"From: =?x?q?Ann?= <a@b.example>", "", "Ann <a@b.example>"),
        ):
            message = NewMessage("a", 1, "u", 1, header + b"\r\n")
            self.assertEqual((message.subject, message.sender), (subject, sender))

    def test_very_long_header_field_is_cut(self) -> None:
        """They are cut, before the standard library gets stuck on them."""
        message = NewMessage("a", 1, "u", 1, b"From: " + b"a " * 10**6)
        self.assertLess(len(message.sender), 5000)

    def test_example_hook_logs_sender_and_subject(self) -> None:
        example = runpy.run_path(str(ROOT / "examples" / "watch_hooks.py"))
        message = NewMessage("ada", 1, "u", 1, mail("hello"))
        with capturedLogs() as events:
            self.successResultOf(Deferred.fromCoroutine(example["arrived"](message)))
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["ada: ann@example.com wrote: hello"],
        )

    def test_hook_that_cannot_be_imported_or_called_is_refused(self) -> None:
        server = self.mailbox()
        for name in ("no_such_module:x", f"{__name__}:nothing"):
            make = partial(self.service, server, hook=f'hook = "{name}"')
            error = self.assertRaises(UsageError, make)
            self.assertIn(f"account ada: hook: {name} cannot be imported", str(error))
        make = partial(self.service, server, hook=f'hook = "{__name__}:INTERVAL"')
        self.assertIn("cannot be called", str(self.assertRaises(UsageError, make)))


CAPABILITIES = ("USER", "UIDL", "TOP", "PIPELINING")


def session(*uids: str, offer: tuple[str, ...] = CAPABILITIES) -> Script:
    script = Script().greet().log_in(capabilities=offer)
    rows = [f"{number} {uid}" for number, uid in enumerate(uids, 1)]
    return script.expect("UIDL").reply(lines=rows)


def listing(script: Script, *sizes: int) -> Script:
    rows = [f"{number} {size}" for number, size in enumerate(sizes, 1)]
    return script.expect("LIST").reply(lines=rows)


class ServerTests(WatchTestCase):
    """Servers of all kinds."""

    def test_second_message_with_a_known_uid_is_reported(self) -> None:
        """The second one is new, though its UID is not."""
        second = listing(session("a", "a"), 1, 2).expect("TOP 2 0").message("")
        self.start(self.service(self.script(session("a").quit(), second.quit())))
        self.advance(INTERVAL)
        self.assertEqual([(m.number, m.uid, m.size) for m in told], [(2, "a", 2)])
        self.assertEqual(self.remembered(), ["a", "a"])

    def test_mailbox_empty_for_one_look_does_not_report_old_mail_again(self) -> None:
        """Its store may be away; what was seen before is not new when it is back."""
        self.start(
            self.service(
                self.script(
                    session("a", "b").quit(), session().quit(), session("a", "b").quit()
                )
            )
        )
        self.advance(INTERVAL)
        self.assertEqual(self.remembered(), ["a", "b"])
        self.advance(INTERVAL)
        self.assertEqual(told, [])
        self.assertEqual(self.remembered(), ["a", "b"])

    def test_a_uid_that_is_gone_is_forgotten(self) -> None:
        server = self.script(session("a", "b").quit(), session("b").quit())
        self.start(self.service(server))
        self.advance(INTERVAL)
        self.assertEqual(self.remembered(), ["b"])

    def test_uid_with_non_ascii_bytes_is_remembered(self) -> None:
        odd = Script().greet().log_in().expect("UIDL").reply(lines=[b"1 \xff"]).quit()
        again = Script().greet().log_in().expect("UIDL").reply(lines=[b"1 \xff"])
        self.start(self.service(self.script(odd, again.quit())))
        self.advance(INTERVAL)
        self.assertEqual((self.remembered(), told), (["\udcff"], []))

    def test_without_uidl_the_message_count_shows_new_mail(self) -> None:
        """Then it is the number of messages that tells, and that is said once."""

        def look(*sizes: int) -> Script:
            script = Script().greet().log_in(capabilities=["USER"])
            return listing(script.expect("UIDL").reply("-ERR what?"), *sizes)

        third = listing(look(10, 20), 10, 20).expect("TOP 2 0").reply("-ERR what?")
        server = self.script(look(10).quit(), look(10).quit(), third.quit())
        self.start(self.service(server))
        self.advance(INTERVAL)
        self.advance(INTERVAL)
        self.assertEqual(
            [(m.number, m.uid, m.size, m.header) for m in told], [(2, "", 20, b"")]
        )
        said = self.said()
        self.assertEqual(len([line for line in said if "has no UIDL" in line]), 1, said)

    def test_message_with_refused_top_is_reported_at_the_next_look(self) -> None:
        """Then the message is told at the next look, with its header."""
        offer = ("USER", "UIDL", "TOP")
        bad = listing(session("a", offer=offer), 1).expect("TOP 1 0")
        good = listing(session("a", offer=offer), 1).expect("TOP 1 0")
        server = self.script(
            bad.reply("-ERR [SYS/TEMP] later").expect_close(),
            good.message(b"Subject: s\r\n\r\n").quit(),
        )
        self.start(self.service(server, "report_existing = true"))
        self.assertEqual(told, [])
        self.advance(INTERVAL)
        self.assertEqual([message.subject for message in told], ["s"])

    def test_refused_uidl_keeps_the_remembered_uids(self) -> None:
        """What had UIDs does not become a mailbox without."""
        bad = Script().greet().log_in(capabilities=["USER"]).expect("UIDL")
        server = self.script(
            session("a", offer=("USER",)).quit(),
            bad.reply("-ERR not now").expect_close(),
        )
        self.start(self.service(server))
        self.said()
        self.advance(INTERVAL)
        self.assertEqual(self.remembered(), ["a"])
        self.assertIn("UIDL", self.said()[0])

    def test_new_messages_beyond_the_limit_wait_for_the_next_look(self) -> None:
        """Not more than so many at once; the rest is told after the next look."""
        server = self.mailbox(*[mail(str(number)) for number in range(MAX_NEW + 2)])
        self.start(self.service(server, "report_existing = true"))
        self.assertEqual(len(told), MAX_NEW)
        self.assertIn("1002 new messages; 1000 of them now", self.said()[0])
        self.advance(INTERVAL)
        self.assertEqual(len(told), MAX_NEW + 2)

    def test_refused_quit_still_remembers_the_messages(self) -> None:
        server = self.script(session("a").expect("QUIT").reply("-ERR").expect_close())
        self.start(self.service(server))
        self.assertEqual(self.remembered(), ["a"])

    def test_login_delay_longer_than_the_interval_is_honoured(self) -> None:
        """Never sooner than the server wants it (RFC 2449 section 6.5)."""
        offer = (*CAPABILITIES, f"LOGIN-DELAY {INTERVAL + 50}")
        server = self.script(
            session("a", offer=offer).quit(), session("a", offer=offer).quit()
        )
        self.start(self.service(server))
        self.assertIn(
            "ada: the server wants 150 seconds between two logins", self.said()
        )
        self.advance(INTERVAL + 49)
        self.assertEqual(len(server.stages), 1)
        self.advance(1)
        self.assertEqual(len(server.stages), 2)
        self.assertEqual(self.said(), [])

    def test_login_delay_of_years_is_limited_to_the_maximum_interval(self) -> None:
        """A server cannot end a watch by that, and in silence."""
        offer = (*CAPABILITIES, "LOGIN-DELAY 999999999")
        server = self.script(session("a", offer=offer).quit(), session("a").quit())
        self.start(self.service(server))
        self.assertIn(f"wants {MAX_INTERVAL} seconds", "".join(self.said()))
        self.advance(MAX_INTERVAL)
        self.assertEqual(len(server.stages), 2)


def refusal(line: str, offer: tuple[str, ...] = ("USER",)) -> Script:
    script = Script().greet().expect("CAPA").reply(lines=list(offer))
    script.expect("USER ada").reply().expect("PASS lovelace").reply(line)
    return script.quit()


class FailureTests(WatchTestCase):
    """A look that fails is one line in the log, and there is a next one."""

    def looks(self, server: ScriptedServer, *waits: float) -> None:
        """See that the server is looked at after these seconds, and not before."""
        for number, wait in enumerate(waits, len(server.stages) + 1):
            self.advance(wait - 1)
            self.assertEqual(len(server.stages), number - 1)
            self.advance(1)
            self.assertEqual(len(server.stages), number)

    def test_refused_password_is_tried_less_and_less_often(self) -> None:
        """It is tried so seldom that the account is not locked."""
        self.assertGreater(REFUSED_WAIT, INTERVAL)
        server = self.script(*[refusal("-ERR [AUTH] no")] * 7)
        self.start(self.service(server))
        [line] = self.said()
        self.assertIn("ada: pop.example.com:110: ", line)
        self.assertIn("the next try is in 900 seconds", line)
        self.assertNotIn("lovelace", line)
        self.looks(server, 900, 1800, 3600, 7200, 14400, 21600)
        self.assertEqual(len(self.said()), 6)

    def test_refusal_without_a_code_waits_as_for_a_wrong_password(self) -> None:
        server = self.script(refusal("-ERR no"), refusal("-ERR no"))
        self.start(self.service(server))
        self.looks(server, 900)

    def test_refusal_before_login_backs_off_from_the_interval(self) -> None:
        """A server that has too many sessions has seen no password."""
        server = self.script(*[Script().say("-ERR too busy\r\n").expect_close()] * 3)
        self.start(self.service(server))
        self.looks(server, 100, 200)
        self.assertIn("refused the session", self.said()[0])

    def test_refusal_after_an_outage_waits_as_after_a_first_one(self) -> None:
        """It waits as after a first refusal: the server may not be all there yet."""
        no = refusal("-ERR no")
        server = self.script(no, no, session("a").quit(), no, no)
        self.errors = [RefusedError()] * 5
        self.start(self.service(server))
        for wait in (100, 200, 400, 800):
            self.advance(wait)
        self.assertEqual(self.errors, [])
        self.looks(server, 1600, 900)
        # What comes between two refusals does not make the second a first one.
        self.errors = [RefusedError()]
        self.advance(1800)
        self.assertEqual(self.errors, [])
        self.looks(server, 3200, INTERVAL, 900)
        self.assertIn("ada: all is well again", self.said())

    def test_mailbox_in_use_is_retried_with_waits_up_to_an_hour(self) -> None:
        """It may be free at the next look; the waits grow, to an hour."""
        server = self.script(*[refusal("-ERR [IN-USE] busy")] * 8)
        self.start(self.service(server))
        self.looks(server, 100, 200, 400, 800, 1600, 3200, 3600)

    def test_login_delay_refusal_waits_the_announced_time(self) -> None:
        """The server says how long to wait."""
        offer = ("USER", "RESP-CODES", "LOGIN-DELAY 700")
        bad = refusal("-ERR [LOGIN-DELAY] too soon", offer)
        server = self.script(bad, bad)
        self.start(self.service(server))
        self.looks(server, 700)

    def test_new_mail_is_reported_after_the_server_is_back(self) -> None:
        """And what is new when it is there again is told."""
        server = self.mailbox(mail("old"))
        self.start(self.service(server))
        server.deliver(mail("new"))
        self.said()
        self.errors = [RefusedError(), RefusedError()]
        self.advance(INTERVAL)
        self.advance(INTERVAL)
        for line, wait in zip(self.said(), (100, 200), strict=True):
            self.assertIn("ada: pop.example.com:110: could not connect: ", line)
            self.assertIn(f"; the next try is in {wait} seconds", line)
        self.advance(2 * INTERVAL)
        self.assertEqual([message.subject for message in told], ["new"])
        self.assertIn("ada: all is well again", self.said())
        self.errors = [RefusedError()]
        self.advance(INTERVAL)
        self.assertIn("in 100 seconds", self.said()[0])

    def test_connection_lost_in_a_header_reports_nothing_and_retries(self) -> None:
        broken = session("a", "b")
        server = self.script(
            session("a").quit(),
            listing(broken, 1, 2).expect("TOP 2 0").say("+OK\r\nSubj").drop(),
        )
        self.start(self.service(server))
        self.said()
        self.advance(INTERVAL)
        [line] = self.said()
        self.assertIn("the next try is in 100 seconds", line)
        self.assertEqual((self.remembered(), told), (["a"], []))

    def test_unexpected_error_is_logged_with_traceback_and_retried(self) -> None:
        """It is told with its traceback, and there is a next look."""
        server = self.mailbox()
        service = self.service(server)
        [watch] = service
        watch._connect = None
        self.start(service)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertIn("ada: unexpected; the next try is in 100 seconds", self.said()[0])

    def test_first_looks_of_several_accounts_are_staggered(self) -> None:
        """Many accounts on one server are looked at one after the other."""
        another = 'password = "x"\n[[account]]\nname = "{0}"\nuser = "{0}"\n' + (
            'server = "pop.example.com"\nsecure = "none"'
        )
        server = self.script(*[Script()] * 3)
        service = self.service(
            server,
            'password = "x"',
            hook=another.format("bob"),
            password=another.format("cleo"),
        )
        self.start(service)
        for number in (1, 2, 3):
            self.assertEqual(len(server.stages), number)
            self.advance(STAGGER)

    def test_interval_counts_from_the_end_of_a_slow_session(self) -> None:
        """A session that takes longer than the interval is the only one."""
        slow = Script().greet().log_in().expect("UIDL").delay(50).reply(lines=["1 a"])
        server = self.script(slow.quit(), session("a").quit())
        self.start(self.service(server, "", hook=""))
        self.advance(50)
        self.assertEqual(len(server.stages), 1)
        self.looks(server, INTERVAL)


class StateTests(WatchTestCase):
    """What is remembered."""

    def test_broken_state_file_prevents_login_until_it_is_removed(self) -> None:
        """Nobody logs in before a person has decided what it was to be."""
        server = self.mailbox(mail("old"))
        self.state.parent.mkdir()
        for text in (
            "",
            '{"mailbox": "ada pop',
            "[]",
            "1",
            '{"mailbox": "x"}',
            "[" * 9999,
        ):
            self.state.write_text(text)
            service = self.start(self.service(server))
            [line] = self.said()
            self.assertIn(f"ada: {self.state} is broken; remove it", line)
            self.assertEqual(self.state.read_text(), text)
            self.successResultOf(service.stopService())
        self.assertEqual(server.endpoint.connections, 0)
        self.start(self.service(server))
        self.said()
        self.state.unlink()
        self.advance(INTERVAL)
        self.assertIn("ada: all is well again", self.said())
        self.assertEqual(len(self.remembered()), 1)

    def test_state_file_with_wrong_types_is_refused(self) -> None:
        file = SeenFile(self.folder / "x.json", "m")
        for value in ({"mailbox": "m", "seen": 1}, {"mailbox": "m", "seen": [1]}):
            file.path.write_text(json.dumps(value))
            self.assertRaises(UsageError, file.read)

    def test_state_of_another_mailbox_counts_as_a_first_look(self) -> None:
        """Its UIDs are others."""
        server = self.mailbox(mail("old"))
        SeenFile(self.state, "bob pop.example.com").write(["a"])
        self.start(self.service(server))
        self.assertEqual(told, [])
        self.assertIn("1 messages at the first look", self.said()[0])

    def test_hook_does_not_run_when_the_state_cannot_be_written(self) -> None:
        """Else it would run for the same messages again and again."""
        server = self.mailbox(mail("new"))
        (self.folder / "state").write_text("not a folder")
        self.start(self.service(server, "report_existing = true"))
        self.assertEqual(told, [])
        [line] = self.said()
        self.assertIn("state", line)
        self.assertIn("the next try is in 100 seconds", line)

    def test_half_written_new_state_file_is_ignored_and_replaced(self) -> None:
        """What a crash has left beside it does no harm."""
        file = SeenFile(self.folder / "x.json", "m")
        file.write(["a"])
        (self.folder / "x.new").write_text("{")
        self.assertEqual(file.read(), ["a"])
        file.write(["b"])
        self.assertEqual(file.read(), ["b"])
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()), ["x.json", "x.new"]
        )

    def test_state_is_saved_between_hooks_a_second_apart(self) -> None:
        """A crash in a long row of hooks forgets the last second only."""
        global answer
        waiting = [Deferred[None]() for _ in range(3)]
        answer = lambda message: waiting[message.number - 1]  # noqa: E731
        server = self.mailbox(mail("1"), mail("2"), mail("3"))
        self.start(self.service(server, "report_existing = true"))
        waiting[0].callback(None)
        self.assertEqual(len(self.remembered()), 0)
        self.advance(1)
        waiting[1].callback(None)
        self.assertEqual(len(self.remembered()), 2)


class PasswordTests(WatchTestCase):
    """Where the password is."""

    def logs_in(self, password: str) -> None:
        self.start(self.service(self.mailbox(), password=password))
        self.assertEqual(
            self.said(), ["ada: 0 messages at the first look; not reported"]
        )

    def refused(self, password: str) -> str:
        self.start(self.service(self.mailbox(), password=password))
        [line] = self.said()
        self.assertIn("no login was tried; the next try is in 100 seconds", line)
        return line

    def keep(self, content: bytes) -> None:
        (self.folder / "secret").write_bytes(content)
        (self.folder / "secret").chmod(0o600)

    def test_first_line_of_password_file_is_the_password(self) -> None:
        """The first line, without its end."""
        for content in (b"lovelace", b"lovelace\n", b"lovelace\r\nmore\n"):
            self.keep(content)
            self.state.unlink(missing_ok=True)
            self.logs_in('password_file = "secret"')

    def test_world_readable_file_with_a_password_is_warned_about(self) -> None:
        """It is said, once for each file, when the service starts."""
        kept = self.folder / "kept"
        kept.write_text("lovelace\n")
        for password, file in (
            ('password = "lovelace"', self.folder / "watch.toml"),
            ('password_file = "kept"', kept),
        ):
            for mode, times in ((0o600, 0), (0o640, 0), (0o644, 1)):
                service = self.service(self.mailbox(), password=password)
                file.chmod(mode)
                service = WatchService(
                    read_config(self.folder / "watch.toml"), reactor=self.clock
                )
                self.said()
                service.startService()
                self.assertEqual(self.said(), [f"{file}: {EXPOSED}"] * times)
                service.stopService()

    def test_missing_password_file_prevents_login(self) -> None:
        line = self.refused('password_file = "secret"')
        self.assertIn("ada: password_file: ", line)
        self.assertIn(str(self.folder / "secret"), line)

    def test_empty_or_non_utf_8_password_file_prevents_login(self) -> None:
        self.keep(b"\n")
        self.assertIn("nothing in it", self.refused('password_file = "secret"'))
        self.keep(b"lovelace\xff")
        line = self.refused('password_file = "secret"')
        self.assertIn("not UTF-8", line)
        self.assertNotIn("lovelace", line)

    def test_password_is_read_from_the_environment(self) -> None:
        self.patch_environment("POP3CONNECT_TEST", "lovelace")
        self.logs_in('password_env = "POP3CONNECT_TEST"')

    def test_missing_environment_variable_prevents_login(self) -> None:
        line = self.refused('password_env = "POP3CONNECT_TEST"')
        self.assertIn("password_env: there is nothing in it", line)

    def test_first_output_line_of_password_command_is_the_password(self) -> None:
        self.start(
            self.service(self.mailbox(), password='password_command = ["sh", "x"]')
        )
        [process] = self.clock.processes
        self.assertEqual(
            (process.command, process.folder, process.closed),
            (("sh", "x"), str(self.folder), True),
        )
        process.protocol.outReceived(b"love")
        process.protocol.outReceived(b"lace\nlogin: ada\n")
        process.end()
        self.advance()
        self.assertEqual(
            self.said(), ["ada: 0 messages at the first look; not reported"]
        )

    def test_only_lf_ends_the_password_of_each_source(self) -> None:
        # VT, FF, CR, FS, GS, RS, NEL, U+2028, U+2029: str.splitlines cuts at each.
        self.patch_environment("POP3CONNECT_TEST", "")
        for odd in "\v\f\r\x1c\x1d\x1e\x85\u2028\u2029":
            password = f"love{odd}lace"
            self.keep(f"{password}\nmore\n".encode())
            os.environ["POP3CONNECT_TEST"] = password
            for source in (
                PasswordSource("password_file", self.folder / "secret"),
                PasswordSource("password_env", "POP3CONNECT_TEST"),
                PasswordSource("password_command", ("sh", "x")),
            ):
                asked = find_password(source, self.folder, self.clock)()
                found = Deferred.fromCoroutine(asked)  # type: ignore[arg-type]
                if source.key == "password_command":
                    process = self.clock.processes[-1]
                    process.protocol.outReceived(f"{password}\nmore\n".encode())
                    process.end()
                self.assertEqual(self.successResultOf(found), password, source)

    def test_output_of_failed_password_command_is_not_logged(self) -> None:
        """What it wrote may have a password in it, and is told nobody."""
        self.start(self.service(self.mailbox(), password='password_command = ["sh"]'))
        [process] = self.clock.processes
        process.protocol.outReceived(b"lovelace")
        process.protocol.errReceived(b"lovelace")
        process.end(3)
        self.advance()
        [line] = self.said()
        self.assertIn("ada: password_command: sh: exit status 3; no login", line)
        self.assertNotIn("lovelace", line)


COMMAND = 'hook = ["sh", "-c", "new"]\nhook_timeout = 5'


class CommandTests(WatchTestCase):
    """A hook that is a command."""

    def run_one(self, *messages: bytes) -> Process:
        server = self.mailbox(*messages or (mail("new"),))
        self.watch = self.start(
            self.service(server, "report_existing = true", hook=COMMAND)
        )
        self.said()
        return self.clock.processes[-1]

    def test_command_gets_facts_in_environment_and_header_on_stdin(self) -> None:
        """In the environment, and the header on standard input."""
        process = self.run_one()
        self.assertEqual(process.command, ("sh", "-c", "new"))
        self.assertTrue(Path(process.program).is_absolute())
        self.assertEqual(process.folder, str(self.folder))
        self.assertEqual((process.given, process.closed), (mail("new")[:-4], True))
        facts = {
            name: value
            for name, value in process.environment.items()
            if name not in os.environ
        }
        uid = facts.pop("POP3CONNECT_UID")
        self.assertEqual(
            facts,
            {
                "POP3CONNECT_ACCOUNT": "ada",
                "POP3CONNECT_NUMBER": "1",
                "POP3CONNECT_SIZE": str(len(mail("new"))),
                "POP3CONNECT_SUBJECT": "new",
                "POP3CONNECT_FROM": "ann@example.com",
            },
        )
        self.assertEqual(self.remembered(), [])
        process.end()
        self.assertEqual(self.remembered(), [uid])
        self.assertEqual(self.said(), [])

    def test_command_environment_has_no_password(self) -> None:
        self.patch_environment("POP3CONNECT_TEST", "lovelace")
        server = self.mailbox(mail("new"))
        self.start(
            self.service(
                server,
                "report_existing = true",
                hook=COMMAND,
                password='password_env = "POP3CONNECT_TEST"',
            )
        )
        [process] = self.clock.processes
        self.assertNotIn("lovelace", process.environment.values())

    def test_environment_values_have_no_nul_and_at_most_1000_characters(self) -> None:
        message = NewMessage("a", 1, "u\0v" * 1000, 1, b"Subject: " + b"x" * 200000)
        for value in message.environment().values():
            self.assertNotIn("\0", value)
            self.assertLessEqual(len(value), 1000)

    def test_commands_for_two_messages_run_one_after_the_other(self) -> None:
        process = self.run_one(mail("one"), mail("two"))
        self.assertEqual(len(self.clock.processes), 1)
        process.end()
        self.assertEqual(len(self.clock.processes), 2)

    def test_failed_command_logs_its_last_line_and_runs_again(self) -> None:
        process = self.run_one()
        process.protocol.errReceived(b"first\nno queue \x1b[2J\n")
        process.end(7)
        [line] = self.said()
        self.assertIn(
            "ada: message 1: hook: sh: exit status 7; it said: no queue", line
        )
        self.assertTrue(line.isprintable())
        self.assertEqual(self.remembered(), [])
        self.advance(INTERVAL)
        self.assertEqual(len(self.clock.processes), 2)

    def test_command_over_its_timeout_gets_term_then_kill(self) -> None:
        """It is asked to end, and made to."""
        process = self.run_one()
        process.stubborn = True
        self.advance(5)
        self.assertEqual(process.signals, ["TERM"])
        self.advance(GRACE)
        self.assertEqual(process.signals, ["TERM", "KILL"])
        self.assertEqual(
            self.said(), ["ada: message 1: hook: sh: took longer than 5 seconds"]
        )
        self.assertEqual(self.remembered(), [])

    def test_child_holding_the_pipes_open_is_not_waited_for(self) -> None:
        """Which holds the pipes open; nobody waits for it."""
        process = self.run_one()
        process.exit(ProcessDone(0))
        self.assertEqual(self.remembered(), [])
        self.advance(1)
        self.assertEqual(len(self.remembered()), 1)
        self.assertTrue(process.lost)

    def test_stop_with_a_child_left_behind_sends_no_signal(self) -> None:
        """It is over as soon: there is nothing to send a signal to."""
        process = self.run_one()
        process.exit(ProcessDone(0))
        stopping = self.watch.stopService()
        self.advance(1)
        self.successResultOf(stopping)
        self.assertEqual(process.signals, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_missing_program_is_logged(self) -> None:
        server = self.mailbox(mail("new"))
        for name in ("no-such-program-here", "./no-such-program"):
            self.start(
                self.service(
                    server, "report_existing = true", hook=f'hook = ["{name}"]'
                )
            )
            self.assertIn(
                f"ada: message 1: hook: {name}: there is no such program",
                self.said()[1],
            )

    def test_command_that_cannot_be_started_logs_the_reason(self) -> None:
        self.clock.problem = OSError(11, "Resource temporarily unavailable")
        server = self.mailbox(mail("new"))
        self.start(self.service(server, "report_existing = true", hook=COMMAND))
        self.assertIn("sh: cannot be started: Resource temp", self.said()[1])

    def test_stop_waits_for_the_command_and_its_message_stays_new(self) -> None:
        """The service waits until it has ended, and the message is told again."""
        process = self.run_one(mail("one"), mail("two"))
        process.stubborn = True
        stopping = self.watch.stopService()
        self.assertEqual(process.signals, ["TERM"])
        self.assertNoResult(stopping)
        self.advance(GRACE)
        self.successResultOf(stopping)
        self.assertEqual(self.remembered(), [])
        self.assertEqual(len(self.clock.processes), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StopTests(WatchTestCase):
    """The end of the service, at any time."""

    def test_stop_before_the_first_look_opens_no_connection(self) -> None:
        server = self.mailbox()
        service = self.service(server)
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(server.endpoint.connections, 0)

    def test_stop_between_two_looks_leaves_no_timer(self) -> None:
        service = self.start(self.service(self.mailbox()))
        self.successResultOf(service.stopService())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_during_a_session_closes_the_connection(self) -> None:
        """Whatever the server owes; it fires when the connection is closed."""
        for script in (
            Script(),
            Script().greet().expect("CAPA"),
            Script().greet().log_in().expect("UIDL"),
            listing(session("a", "b"), 1, 2)
            .expect("TOP 1 0")
            .expect("TOP 2 0")
            .say("+OK\r\nSub"),
            session().expect("QUIT"),
        ):
            server = self.script(script.expect_close())
            self.state.unlink(missing_ok=True)
            service = self.start(self.service(server, "report_existing = true"))
            stopping = service.stopService()
            server.flush()
            self.successResultOf(stopping)
            self.assertTrue(server.stages[0].closed)
            self.assertFalse(self.state.exists())
            self.assertEqual(self.said(), [])
            server.flush()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_during_the_password_command_ends_it(self) -> None:
        server = self.script(
            Script().greet().expect("CAPA").reply(lines=["USER"]).expect_close()
        )
        service = self.start(self.service(server, password='password_command = ["sh"]'))
        [process] = self.clock.processes
        process.stubborn = True
        stopping = service.stopService()
        self.assertNoResult(stopping)
        self.advance(GRACE)
        self.successResultOf(stopping)
        self.assertEqual(process.signals, ["TERM", "KILL"])

    def test_stop_during_a_hook_cancels_it_and_remembers_earlier_ones(self) -> None:
        """It is cancelled; what was told before it is remembered."""
        global answer
        cancelled: list[object] = []
        waiting: Deferred[None] = Deferred(cancelled.append)
        answer = lambda message: waiting if message.number == 2 else None  # noqa: E731
        server = self.mailbox(mail("1"), mail("2"), mail("3"))
        service = self.start(self.service(server, "report_existing = true"))
        self.successResultOf(service.stopService())
        self.assertEqual(cancelled, [waiting])
        self.assertEqual(len(self.remembered()), 1)
        self.assertEqual(len(told), 2)
        answer = succeed
        self.start(self.service(server))
        self.assertEqual([message.number for message in told], [1, 2, 2, 3])

    def test_hook_that_succeeds_when_stopped_counts_and_no_other_runs(self) -> None:
        """What it did counts, and there is no next one."""
        global answer
        waiting: Deferred[None] = Deferred(lambda each: each.callback(None))
        answer = lambda message: waiting  # noqa: E731
        server = self.mailbox(mail("1"), mail("2"))
        service = self.start(self.service(server, "report_existing = true"))
        self.successResultOf(service.stopService())
        self.assertEqual((len(self.remembered()), len(told)), (1, 1))

    def test_stopping_twice_waits_for_the_end_both_times(self) -> None:
        """Both wait for the end."""
        server = self.mailbox(mail("1"))
        service = self.start(
            self.service(server, "report_existing = true", hook='hook = ["sh"]')
        )
        self.clock.processes[0].stubborn = True
        both = [service.stopService(), service.stopService()]
        for stopping in both:
            self.assertNoResult(stopping)
        self.advance(GRACE)
        for stopping in both:
            self.successResultOf(stopping)

    def test_start_before_the_stop_has_finished_waits_for_it(self) -> None:
        """Also before it has stopped; never two looks at once."""
        process_hook = 'hook = ["sh"]'
        server = self.mailbox(mail("1"))
        service = self.start(
            self.service(server, "report_existing = true", hook=process_hook)
        )
        self.clock.processes[0].stubborn = True
        stopping = service.stopService()
        service.startService()
        self.advance()
        self.assertEqual(len(self.clock.processes), 1)
        self.advance(GRACE)
        self.successResultOf(stopping)
        self.assertEqual(len(self.clock.processes), 2)
