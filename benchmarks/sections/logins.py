"""Logins and looks one after another: how many a second, and the cost of each."""

from dataclasses import asdict

from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import Helper
from benchmarks.report import Table, number
from benchmarks.runner import run as run_command
from benchmarks.runner import worker

REUSED = "pop3client, context reused"
EACH = "pop3client, context each"
HANDED_ON = "pop3client, session handed on"
PLAIN, FULL, RESUMED = "plain", "TLS, full", "TLS, resumed"
LOOK, LOOK_FULL, LOOK_RESUMED = "look, plain", "look, TLS, full", "look, TLS, resumed"
# kind, who, worker module, its mode, the server's port, share of the usual count
CASES = [
    (PLAIN, "ours", "ours", "", "plain", 1.0),
    (PLAIN, "pop3client", "peer_pop3client", "reused", "plain", 1.0),
    (PLAIN, "poplib", "peer_poplib", "", "plain", 1.0),
    (FULL, "ours", "ours", "", "tls_full", 0.5),
    (FULL, REUSED, "peer_pop3client", "reused", "tls_full", 0.5),
    (FULL, EACH, "peer_pop3client", "fresh", "tls_full", 0.2),
    (FULL, "poplib, context reused", "peer_poplib", "", "tls_full", 0.5),
    (RESUMED, "ours", "ours", "", "tls", 0.5),
    (RESUMED, HANDED_ON, "peer_pop3client", "resumed", "tls", 0.5),
    (LOOK, "ours", "ours", "", "plain", 0.5),
    (LOOK, "pop3client", "peer_pop3client", "reused", "plain", 0.5),
    (LOOK, "poplib", "peer_poplib", "", "plain", 0.5),
    (LOOK_FULL, "ours", "ours", "", "tls_full", 0.3),
    (LOOK_FULL, REUSED, "peer_pop3client", "reused", "tls_full", 0.3),
    (LOOK_FULL, "poplib, context reused", "peer_poplib", "", "tls_full", 0.3),
    (LOOK_RESUMED, "ours", "ours", "", "tls", 0.3),
    (LOOK_RESUMED, HANDED_ON, "peer_pop3client", "resumed", "tls", 0.3),
]  # fmt: skip
NOTES = [
    "A login is connect, greeting, USER and PASS (ours asks for CAPA too), QUIT; a "
    "look also STAT, UIDL and LIST, ours with one Connector for all looks. One session "
    "after another. Sessions a second are wall time (perf_counter) and include the "
    "server's; CPU is the client's process_time. The first of each are not timed.",
]


def run(bench: Bench) -> None:
    """Several rounds, each client in turn, against the fast server."""
    table = Table(
        "Logins and looks",
        ("Kind", "Client", "sessions/s", "CPU ms each", "resumed", "server busy"),
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
                work = "looks" if kind.startswith("look") else "logins"
                task = {**asdict(target), "task": work, "mode": mode, "warm": warm}
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
