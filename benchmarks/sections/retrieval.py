"""Fetching from the fast server: every load, shape and transport."""

from benchmarks.clients import (
    BARE,
    CLIENTS,
    DEFERREDS,
    INTO,
    LOCKSTEP,
    MESSAGES,
    POP3CLIENT,
    POPLIB,
    SINK,
    STREAMED,
)
from benchmarks.contest import HEADER, Bench, Contest
from benchmarks.helpers import Helper
from benchmarks.report import Table

OURS = [MESSAGES, DEFERREDS, STREAMED, INTO, LOCKSTEP]
WORKERS = [*OURS, POP3CLIENT, POPLIB, BARE, SINK]
QUICK = {
    ("small", "base64", "plain"): [*WORKERS, "mpop", "curl"],
    ("small", "base64", "tls"): [MESSAGES, POP3CLIENT, POPLIB, BARE, SINK],
    ("small", "prose", "plain"): [MESSAGES, POP3CLIENT, BARE],
    ("small", "dots", "plain"): [MESSAGES, POP3CLIENT, BARE],
    ("large", "base64", "plain"): [STREAMED, POP3CLIENT, POPLIB, BARE, "mpop", "curl"],
    ("large", "base64", "tls"): [STREAMED, POP3CLIENT, POPLIB, BARE],
}
NOTES = [
    "The sink drops what comes, unread, in 1 MB reads: as fast as the server can "
    "be drained. Server busy is its CPU (process_time) by the RETR wall time: "
    "below 100 %, the server waited for the client.",
    "pop3client and poplib give lists of lines, ours whole messages; the bare loop "
    "keeps nothing. Programs deliver to /dev/null, getmail6 to a throw-away "
    "Maildir with a process and an fsync for each message; fetchmail and getmail6 "
    "run once.",
    "dots: every line of the message begins with a dot, so every line is stuffed.",
]


def names(bench: Bench, load: str, shape: str, transport: str) -> list[str]:
    """Who takes part; the programs only where the shape is what they usually get."""
    if bench.quick:
        return QUICK.get((load, shape, transport), [])
    return list(CLIENTS) if shape == "base64" else WORKERS


def run(bench: Bench) -> None:
    """One server process a mailbox, both transports on it."""
    table = Table("Retrieval from a fast local server", HEADER, notes=NOTES)
    bench.tables.append(table)
    bench.pace.expect(
        sum(
            bool(names(bench, load, shape, transport))
            for load in bench.loads
            for shape in bench.shapes
            for transport in bench.transports
        )
    )
    for key in bench.loads:
        load = bench.load(key)
        for shape in bench.shapes:
            wanted = {
                transport: who
                for transport in bench.transports
                if (who := names(bench, key, shape, transport))
            }
            if not wanted:
                continue
            with Helper(
                "server",
                count=load.count,
                size=load.size,
                shape=shape,
                identity=str(bench.identity.server),
            ) as server:
                for transport, who in wanted.items():
                    port, wire = server.hello[transport], server.hello["wire"]
                    contest = Contest(
                        bench,
                        "fast",
                        load,
                        shape,
                        transport,
                        bench.target(port, transport, load.count, wire=wire),
                        lambda server=server: server.stats()["cpu"],
                    )
                    contest.hold(table, who)
