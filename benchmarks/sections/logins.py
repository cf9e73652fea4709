"""Logins one after another: how many a second, and what each costs the client."""

from dataclasses import asdict

from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import Helper
from benchmarks.report import Table, number
from benchmarks.runner import run as run_command
from benchmarks.runner import worker

REUSED = "pop3client, context reused"
EACH = "pop3client, context each"
HANDED_ON = "pop3client, session handed on"
# who, worker module, its mode, the server's port, share of the usual count
CASES = [
    ("plain", "ours", "ours", "", "plain", 1.0),
    ("plain", "pop3client", "peer_pop3client", "reused", "plain", 1.0),
    ("plain", "poplib", "peer_poplib", "", "plain", 1.0),
    ("TLS, full", "ours", "ours", "", "tls_full", 0.5),
    ("TLS, full", REUSED, "peer_pop3client", "reused", "tls_full", 0.5),
    ("TLS, full", EACH, "peer_pop3client", "fresh", "tls_full", 0.2),
    ("TLS, full", "poplib, context reused", "peer_poplib", "", "tls_full", 0.5),
    ("TLS, resumed", "ours", "ours", "", "tls", 0.5),
    ("TLS, resumed", HANDED_ON, "peer_pop3client", "resumed", "tls", 0.5),
]  # fmt: skip
NOTES = [
    "Connect, greeting, USER and PASS (ours asks for CAPA too), QUIT, one session "
    "after another. Logins a second are wall time (perf_counter) and include the "
    "server's; CPU is the client's process_time. The first of each are not timed.",
]


def run(bench: Bench) -> None:
    """Several rounds, each client in turn, against the fast server."""
    table = Table(
        "Logins",
        ("Kind", "Client", "logins/s", "CPU ms/login", "resumed", "server busy"),
        notes=NOTES,
    )
    bench.tables.append(table)
    try:
        measure(bench)
    finally:
        rows(bench, table)


def measure(bench: Bench) -> None:
    """Every round, in turn."""
    usual, warm = (100, 10) if bench.quick else (1000, 20)
    with Helper(
        "server",
        count=1,
        size=512,
        shape="base64",
        identity=str(bench.identity.server),
    ) as server:
        for _ in bench.pace.rounds("all kinds"):
            for kind, who, module, mode, port, share in CASES:
                if module == "ours" and not have_ours():
                    continue
                count = int(usual * share)
                target = bench.target(
                    server.hello[port], port, count, user="user", password="secret"
                )
                before = server.stats()
                task = {**asdict(target), "task": "logins", "mode": mode, "warm": warm}
                result = run_command(worker(module, **task))
                after = server.stats()
                if result.error is not None:
                    bench.results.errors.append(f"logins {kind} {who}: {result.error}")
                    continue
                done = after["connections"] - before["connections"]
                bench.results.add(
                    "logins",
                    kind,
                    who,
                    wall=result.figures["wall"] / count,
                    cpu=result.figures["cpu"] / count,
                    resumed=(after["resumed"] - before["resumed"]) / done,
                    busy=(after["cpu"] - before["cpu"]) / result.process_wall,
                )


def rows(bench: Bench, table: Table) -> None:
    """The medians, one row a client."""
    last = ""
    for kind, who, *_ in CASES:
        key = ("logins", kind, who)
        wall, cpu = bench.results.get(*key, "wall"), bench.results.get(*key, "cpu")
        if wall is None or cpu is None:
            continue
        resumed = bench.results.get(*key, "resumed") or 0.0
        busy = bench.results.get(*key, "busy") or 0.0
        shown = "" if kind == last else kind
        table.add(
            shown,
            who,
            number(1 / wall),
            number(cpu * 1e3, 3),
            f"{resumed:.0%}",
            f"{busy:.0%}",
        )
        last = kind
