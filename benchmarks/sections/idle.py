"""What a session costs in memory while nothing happens, after login."""

from dataclasses import asdict

from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import Helper
from benchmarks.report import Table, number
from benchmarks.runner import run as run_command
from benchmarks.runner import worker

WHO = [
    ("ours", "ours", ""),
    ("bare Twisted protocol", "peer_pop3client", "bare"),
    ("pop3client", "peer_pop3client", "reused"),
    ("poplib", "peer_poplib", ""),
]
NOTES = [
    "Resident memory (VmRSS) with all of them open less that with the first 20, by "
    "their number, after a garbage collection; logged in, except the bare "
    "protocol, which has only taken the greeting.",
]


def run(bench: Bench) -> None:
    """Two thousand sessions open at once, in a process that does nothing else."""
    count = 200 if bench.quick else 2000
    table = Table(
        "Memory of an idle session",
        ("Client", "sessions", "plain KiB", "TLS KiB"),
        notes=NOTES,
    )
    bench.tables.append(table)
    try:
        measure(bench, count)
    finally:
        rows(bench, count, table)


def measure(bench: Bench, count: int) -> None:
    """Every round, in turn."""
    results = bench.results
    with Helper(
        "server",
        count=1,
        size=512,
        shape="base64",
        identity=str(bench.identity.server),
    ) as server:
        for _ in bench.pace.rounds("idle sessions", most=3):
            for transport in bench.transports:
                for who, module, mode in WHO:
                    if module == "ours" and not have_ours():
                        continue
                    port = server.hello[transport]
                    target = bench.target(port, transport, count)
                    task = {**asdict(target), "task": "idle", "mode": mode, "warm": 20}
                    result = run_command(worker(module, **task))
                    if result.error is not None:
                        error = f"idle {who} {transport}: {result.error}"
                        results.errors.append(error)
                        continue
                    results.add("idle", transport, who, each=result.figures["each"])


def rows(bench: Bench, count: int, table: Table) -> None:
    """The medians, one row a client."""
    for who, *_ in WHO:
        cells = [
            number(each / 1024, 1) if each is not None else None
            for each in (
                bench.results.get("idle", t, who, "each") for t in ("plain", "tls")
            )
        ]
        if any(cells):
            table.add(who, f"{count:,}", *cells)
