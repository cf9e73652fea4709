"""One mailbox, all clients in turn, several rounds: the figures and their rows."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.clients import BARE, CLIENTS, POP3CLIENT, POPLIB, Client, Target
from benchmarks.helpers import Identity
from benchmarks.loads import LOADS, QUICK_LOADS, SHAPES, Load
from benchmarks.pace import Pace
from benchmarks.quiet import Pressure
from benchmarks.report import Table, number, times
from benchmarks.results import Results
from benchmarks.runner import Run, run

ATTEMPTS = 3  # of a run that others disturb; the last one counts, whatever came
HEADER = (
    "Work",
    "Client",
    "MB/s",
    "messages/s",
    "RETR ms",
    "RETR CPU ms",
    "x pop3client",
    "x poplib",
    "x bare loop",
    "server busy",
    "process ms",
    "process CPU ms",
)


@dataclass
class Bench:
    """What a section needs to know."""

    identity: Identity
    scratch: Path
    pace: Pace
    quick: bool = False
    loads: tuple[str, ...] = tuple(LOADS)
    shapes: tuple[str, ...] = SHAPES
    transports: tuple[str, ...] = ("plain", "tls")
    clients: tuple[str, ...] = ()
    results: Results = field(default_factory=Results)
    tables: list[Table] = field(default_factory=list)

    def load(self, key: str) -> Load:
        """The load, in its size for this run."""
        return (QUICK_LOADS if self.quick else LOADS)[key]

    def takes_part(self, client: Client) -> bool:
        """Whether it was asked for and can run."""
        wanted = not self.clients or any(c in client.name for c in self.clients)
        return wanted and client.installed and (not client.ours or have_ours())

    def target(self, port: int, transport: str, count: int, **more: object) -> Target:
        """A mailbox on a port of this machine."""
        return Target(
            port,
            transport != "plain",
            str(self.identity.ca),
            str(self.identity.cacerts),
            count,
            **more,  # type: ignore[arg-type]
        )


def have_ours() -> bool:
    """Whether the library can be called."""
    return importlib.util.find_spec("pop3connect.api") is not None


@dataclass
class Contest:
    """Clients against one mailbox; *stats* gives the server's CPU seconds."""

    bench: Bench
    server: str
    load: Load
    shape: str
    transport: str
    target: Target
    stats: Callable[[], float] | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Where the figures lie."""
        return (self.server, self.load.key, self.shape, self.transport)

    def hold(self, table: Table, names: Sequence[str]) -> None:
        """All rounds, then their rows, also when the rounds were cut off."""
        try:
            self.rounds(names)
        finally:
            self.rows(table, names)

    def rounds(self, names: Sequence[str]) -> None:
        """All rounds; the slow ones are in the first only."""
        clients = [CLIENTS[n] for n in names if self.bench.takes_part(CLIENTS[n])]
        title, failed = " ".join(self.key), set[str]()
        for turn in self.bench.pace.rounds(title):
            for client in clients:
                if (client.slow and turn) or client.name in failed:
                    continue
                if not self.bench.pace.has_time(f"{title}, {client.name}"):
                    continue
                result = self.once(client)
                if result.error is not None:
                    failed.add(client.name)
                    error = f"{title}, {client.name}: {result.error}"
                    self.bench.results.errors.append(error)

    def warm(self, name: str) -> None:
        """A run that does not count."""
        with TemporaryDirectory(dir=self.bench.scratch) as scratch:
            run(CLIENTS[name].command(self.target, Path(scratch)))

    def once(self, client: Client) -> Run:
        """One run, repeated while others disturb it; its figures are noted."""
        results = self.bench.results
        for attempt in range(1 if self.bench.quick else ATTEMPTS):
            pressure = Pressure()
            result, figures = self.attempt(client)
            # Dovecot and the relay are several processes on one core: they wait anyway.
            mine = self.stats is not None and not client.slow
            disturbed = mine and pressure.disturbed()
            if not disturbed:
                break
            time.sleep(attempt)
        results.runs += mine
        results.disturbed += disturbed
        if result.error is None:
            results.add(*self.key, client.name, **figures)
        return result

    def attempt(self, client: Client) -> tuple[Run, dict[str, float]]:
        """One run; its figures are checked."""
        with TemporaryDirectory(dir=self.bench.scratch) as scratch:
            command = client.command(self.target, Path(scratch))
            before = self.stats() if self.stats else 0.0
            result = run(command, answers=client.program is None)
            after = self.stats() if self.stats else 0.0
        figures = {"process": result.process_wall, "process_cpu": result.process_cpu}
        if result.error is None and client.program is None:
            got = result.figures
            octets = got.get("octets", self.load.size * got["messages"])
            wanted = self.target.count * self.load.size
            if octets != wanted:
                result.error = f"{octets} octets, not {wanted}"
            figures.update(retr=got["wall"], retr_cpu=got["cpu"], peak=got["peak"])
            if self.stats:
                figures["busy"] = (after - before) / got["wall"]
        return result, figures

    def rows(self, table: Table, names: Sequence[str]) -> None:
        """The medians, one row a client."""
        results = self.bench.results
        work = f"{self.load.title} {self.shape} {self.transport}"
        if self.server == "maildir":
            work += " (Maildir)"
        for name in names:
            key = (*self.key, name)
            process = results.get(*key, "process")
            if process is None:
                continue
            retr = results.get(*key, "retr")
            share = [
                times(results.ratio((*self.key, peer, "retr"), (*key, "retr")))
                for peer in (POP3CLIENT, POPLIB, BARE)
            ]
            table.add(
                work,
                name,
                number(self.target.count * self.load.size / 1e6 / retr)
                if retr
                else None,
                number(self.target.count / retr) if retr else None,
                number(retr * 1e3, 1) if retr else None,
                milliseconds(results.get(*key, "retr_cpu")),
                *share,
                percent(results.get(*key, "busy")),
                number(process * 1e3),
                milliseconds(results.get(*key, "process_cpu"), 0),
            )
            work = ""


def milliseconds(value: float | None, digits: int = 1) -> str | None:
    """Seconds, as milliseconds."""
    return None if value is None else number(value * 1e3, digits)


def percent(value: float | None) -> str | None:
    """A share."""
    return None if value is None else f"{min(value, 1.0):.0%}"
