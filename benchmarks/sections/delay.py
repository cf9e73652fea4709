"""Fetching over a longer line: 50 ms of added round trip."""

from dataclasses import replace

from benchmarks.clients import (
    BARE,
    DEFERREDS,
    LOCKSTEP,
    MESSAGES,
    POP3CLIENT,
    POPLIB,
    STREAMED,
)
from benchmarks.contest import Bench, Contest
from benchmarks.helpers import Helper
from benchmarks.report import Table, number

ONE_WAY = 0.025
PIPELINED = [MESSAGES, DEFERREDS, STREAMED, BARE, "mpop"]
ONE_BY_ONE = [LOCKSTEP, POP3CLIENT, POPLIB]


def run(bench: Bench) -> None:
    """All messages where requests overlap; a sample, scaled, where they don't."""
    load, sample = bench.load("small"), 10 if bench.quick else 100
    pipelined = [MESSAGES, BARE, "mpop"] if bench.quick else PIPELINED
    table = Table(
        "5,000 x 4 KB base64 plain with 50 ms of added round trip",
        ("Client", "Fetched", "RETR s", "process s", "s for 5,000", "of pop3client"),
        notes=[
            f"The line delays each direction by {ONE_WAY * 1e3:.0f} ms and has no rate "
            "limit; its connect is not delayed. All times are perf_counter wall.",
            f"Clients that send one request at a time fetched {sample} messages: their "
            "RETR time is scaled to 5,000, login and start are counted once.",
        ],
    )
    bench.tables.append(table)
    bench.pace.expect(2)
    with (
        Helper("server", count=load.count, size=load.size, shape="base64") as server,
        Helper("delay", target=server.hello["plain"], seconds=ONE_WAY) as line,
    ):
        target = bench.target(line.hello["plain"], "plain", load.count)
        whole = Contest(bench, "delay", load, "base64", "plain", target)
        few = replace(whole, target=replace(target, count=sample))
        try:
            whole.rounds(pipelined)
            few.rounds(ONE_BY_ONE)
        finally:
            rows(bench, whole, pipelined, sample, table)


def rows(
    bench: Bench, whole: Contest, pipelined: list[str], sample: int, table: Table
) -> None:
    """The medians, and what they come to for all messages."""
    load, results = whole.load, bench.results
    for name in (*pipelined, *ONE_BY_ONE):
        process = results.get(*whole.key, name, "process")
        if process is None:
            continue
        retr = results.get(*whole.key, name, "retr")
        fetched = sample if name in ONE_BY_ONE else load.count
        total = process
        if retr is not None:
            total += retr * (load.count / fetched - 1)
        results.add(*whole.key, name, total=total)
    slowest = (*whole.key, POP3CLIENT, "total")
    for name in (*pipelined, *ONE_BY_ONE):
        key = (*whole.key, name)
        share = results.ratio((*key, "total"), slowest)
        if results.get(*key, "total") is None:
            continue
        table.add(
            name,
            sample if name in ONE_BY_ONE else load.count,
            number(results.get(*key, "retr"), 2),
            number(results.get(*key, "process"), 2),
            number(results.get(*key, "total"), 2),
            None if share is None else f"{share:.2%}",
        )
