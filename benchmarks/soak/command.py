"""The command ``python -m benchmarks soak``, and its tables."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from benchmarks.helpers import Helper, Identity
from benchmarks.report import Table, number, say
from benchmarks.runner import use_client_core
from benchmarks.soak.census import allow_files
from benchmarks.soak.faults import FAULTS
from benchmarks.soak.rounds import NO_FAULT, Round, Soak
from benchmarks.soak.visit import Place, Plan
from pop3connect import Secure

_SHOWN = 20  # complaints


def serve(identity: Identity, plan: Plan) -> Helper:
    """Start the server; a context manager."""
    return Helper(
        "soak.server",
        sessions=plan.sessions,
        share=plan.share,
        messages=plan.messages,
        patience=plan.patience,
        identity=str(identity.server),
    )


async def soak(
    reactor: Any, identity: Identity, plan: Plan, *ways: Secure
) -> tuple[list[Round], list[str]]:
    """Serve and run; the rounds, and all that is wrong."""
    with serve(identity, plan) as server:
        place = Place(server.hello, str(identity.cacerts))
        run = Soak(reactor, server, place, plan, *ways)
        rounds = await run.run()
    return rounds, [*run.complaints, *(c for each in rounds for c in each.complaints)]


def tables(title: str, rounds: list[Round]) -> list[Table]:
    """What was counted after each round, and how the sessions ended."""
    counts = Table(
        title,
        (
            "Round",
            "open at once",
            "messages right",
            "seconds",
            "files",
            "calls",
            "selectables",
            "objects",
            "blocks",
            "malloc MiB",
            "resident MiB",
        ),
    )
    outcomes: Counter[tuple[str, bool]] = Counter()
    for turn, one in enumerate(rounds, 1):
        outcomes += one.outcomes
        assert one.census is not None
        counts.add(
            turn,
            number(one.open_at_once),
            number(one.messages),
            number(one.seconds, 1),
            one.census.files,
            one.census.calls,
            one.census.selectables,
            number(one.census.living),
            number(one.census.blocks),
            number(one.census.malloced / 1024**2, 1),
            number(one.census.resident / 1024**2),
        )
    faults = Table(
        f"{title}: outcomes", ("Fault", "must give", "sessions", "did", "did not")
    )
    kinds = [(NO_FAULT, "all right")] + [
        (each.name, each.ends.__name__ if each.ends else "all right") for each in FAULTS
    ]
    for name, must in kinds:
        did, did_not = outcomes[name, True], outcomes[name, False]
        if did + did_not:
            faults.add(name, must, number(did + did_not), number(did), number(did_not))
    return [counts, faults]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks soak",
        description="Many sessions at once, some of them struck by a fault; exit "
        "status 1 if one hangs, leaks, or ends in another way than it must.",
    )
    add = parser.add_argument
    add("--sessions", type=int, default=2000, help="at once (2000)")
    add("--rounds", type=int, default=5, help="one after another (5)")
    add("--faults", type=float, default=0.1, help="share of the sessions (0.1)")
    add("--messages", type=int, default=6, help="in each mailbox, at least 2 (6)")
    add("--patience", type=float, default=5.0, help="time limit where one is due (5)")
    add("--limit", type=float, default=300.0, help="seconds of work that are a hang")
    add(
        "--secure",
        type=int,
        choices=[int(way) for way in Secure],
        action="append",
        help="0 plain, 1 TLS, 2 STLS (each of them, in turn)",
    )
    return parser.parse_args(argv)


async def _command(reactor: Any, options: argparse.Namespace) -> None:
    plan = Plan(
        sessions=options.sessions,
        rounds=options.rounds,
        share=options.faults,
        messages=max(options.messages, 2),
        patience=options.patience,
        limit=options.limit,
    )
    failed = False
    with tempfile.TemporaryDirectory(prefix="pop3soak-") as folder:
        identity = Identity(Path(folder))
        for way in [Secure(each) for each in options.secure or Secure]:
            began = time.perf_counter()
            say(f"{plan.rounds} rounds of {plan.sessions} sessions, {way.name}")
            rounds, complaints = await soak(reactor, identity, plan, way)
            title = f"{way.name}, {time.perf_counter() - began:.0f} s"
            print("\n".join(table.text() for table in tables(title, rounds)))
            for complaint in complaints[:_SHOWN]:
                print(f"FAILED: {complaint}", file=sys.stderr)
            if len(complaints) > _SHOWN:
                say(f"and {len(complaints) - _SHOWN} more")
            failed = failed or bool(complaints)
    raise SystemExit(int(failed))


def main(argv: Sequence[str]) -> None:
    """Run it; leaves with `SystemExit`."""
    options = arguments(argv)
    missing = allow_files(options.sessions)
    if missing:
        sys.exit(missing)
    use_client_core()
    react(lambda reactor: Deferred.fromCoroutine(_command(reactor, options)))
