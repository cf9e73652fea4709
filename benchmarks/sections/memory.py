"""Peak memory while 100 MB pass through."""

from dataclasses import asdict

from benchmarks.clients import POP3CLIENT, POPLIB
from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import Helper
from benchmarks.report import Table, number
from benchmarks.runner import run as run_command
from benchmarks.runner import worker

WHO = [
    ("ours, streamed", "ours", "peak"),
    (POP3CLIENT, "peer_pop3client", "retrieve"),
    (POPLIB, "peer_poplib", "retrieve"),
]
NOTES = [
    "VmRSS of the process with an idle session, then its peak, VmHWM; one run; a "
    "MB is 1,000,000 octets."
]


def run(bench: Bench) -> None:
    """Ours streams; the peers have no way but whole messages by default."""
    load, results = bench.load("huge"), bench.results
    table = Table(
        "Peak memory with one message of 100 MB",
        ("Transport", "Client", "idle session MB", "peak MB", "more MB"),
        notes=NOTES,
    )
    bench.tables.append(table)
    bench.pace.expect(len(bench.transports) * len(WHO))
    with Helper(
        "server",
        count=load.count,
        size=load.size,
        shape="base64",
        identity=str(bench.identity.server),
    ) as server:
        for transport in bench.transports:
            for who, module, task_name in WHO:
                if not have_ours() if module == "ours" else bench.quick:
                    continue
                for _ in bench.pace.rounds(f"{transport}, {who}", most=1):
                    port = server.hello[transport]
                    target = bench.target(port, transport, load.count)
                    task = {**asdict(target), "task": task_name, "mode": "reused"}
                    result = run_command(worker(module, **task))
                    if result.error is not None:
                        results.errors.append(f"memory {who}: {result.error}")
                        continue
                    peak = result.figures["peak"]
                    before = result.figures.get("before")
                    more = None if before is None else peak - before
                    if more is not None:
                        results.add("memory", transport, who, more=more)
                    table.add(transport, who, *map(megabytes, (before, peak, more)))


def megabytes(octets: float | None) -> str | None:
    """Octets as MB."""
    return None if octets is None else number(octets / 1e6, 1)
