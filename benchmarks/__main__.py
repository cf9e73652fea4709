"""The command: ``python -m benchmarks [NAME]... [--quick] [--rst FILE]``.

A section takes five minutes at most; rounds that do not fit are left out.  A run that
is cut off (Ctrl-C, SIGTERM, ``timeout``) prints what was measured.

``python -m benchmarks collect`` is a section that takes part only where it is named: it
starts other collectors of mail, and takes a quarter of an hour.

``python -m benchmarks soak`` is a command of its own: nothing is compared there.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import targets
from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import Identity, compile_modules
from benchmarks.loads import LOADS, SHAPES
from benchmarks.pace import Pace
from benchmarks.quiet import Quiet
from benchmarks.report import conditions, say
from benchmarks.results import Results
from benchmarks.runner import use_client_core
from benchmarks.sections import (
    collect,
    delay,
    idle,
    imports,
    logins,
    memory,
    real_dovecot,
    retrieval,
)
from benchmarks.soak import command as soak

SECTIONS = {
    "retrieval": retrieval.run,
    "dovecot": real_dovecot.run,
    "delay": delay.run,
    "logins": logins.run,
    "idle": idle.run,
    "memory": memory.run,
    "imports": imports.run,
    "collect": collect.run,
}
USUAL = [name for name in SECTIONS if name != "collect"]
MINUTES = {"collect": 15.0}  # others have 5
QUICK = 45.0  # seconds for all sections of a quick run; starting takes some too
SHARES = {"retrieval": 4.0, "memory": 0.5}  # of that time; others have 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="pop3connect beside its peers; prints tables of figures.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    add("--quick", action="store_true", help="one round of less, within a minute")
    add("--rounds", type=int, help="at most so many (5, or 1 with --quick)")
    add("--minutes", type=float, help="at most so many for each section (5)")
    add("--only", action="append", choices=SECTIONS, metavar="NAME", help="a section")
    add("--load", action="append", choices=LOADS, help="only this load")
    add("--shape", action="append", choices=SHAPES, help="only this shape")
    add("--transport", action="append", choices=("plain", "tls"), help="only this one")
    add("--client", action="append", default=[], help="only names that contain this")
    add("--rst", type=Path, metavar="FILE", help="write the tables for the README")
    add("--json", type=Path, metavar="FILE", help="write every figure of every round")
    options = parser.parse_args()
    for name in options.names:
        if name not in SECTIONS:
            parser.error(
                f"no section is called {name}; there are {', '.join(SECTIONS)}"
            )
    options.only = [*options.names, *(options.only or [])] or USUAL
    return options


def seconds_for(name: str, waiting: list[str], options: argparse.Namespace) -> float:
    """How long a section may take, when those in *waiting* come after it."""
    if options.minutes is not None:
        return float(options.minutes) * 60
    if not options.quick:
        return MINUTES.get(name, 5.0) * 60
    share = SHARES.get(name, 1.0)
    others = sum(SHARES.get(each, 1.0) for each in waiting)
    left = QUICK - (time.perf_counter() - options.began)
    return max(0.0, left) * share / (share + others)


def company(results: Results, quiet: Quiet) -> str:
    """What is known of others on the machine."""
    others, text = quiet.others(), ""
    if others is not None:
        text = f"Other processes had {others:.0%} of the machine meanwhile. "
    if results.runs:
        text += (
            f"{results.disturbed} of {results.runs} retrievals from the fast server "
            "met others on a core for over a tenth of their time, also when repeated."
        )
    return text


def main() -> int:
    """Measure, then print; 1 when something failed."""
    options = arguments()
    options.began, quiet = time.perf_counter(), Quiet()
    # timeout and other programs end us so; what was measured is printed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    use_client_core()
    compile_modules()
    if not have_ours():
        say("pop3connect is not complete: only the peers take part")
    memory_disk = Path("/dev/shm")
    scratch = Path(
        tempfile.mkdtemp(
            prefix="pop3bench-", dir=memory_disk if memory_disk.is_dir() else None
        )
    )
    rounds = options.rounds or (1 if options.quick else 5)
    paces: list[Pace] = []
    status = 0
    bench = Bench(
        Identity(scratch),
        scratch,
        Pace("none", 0.0, rounds),
        options.quick,
        tuple(options.load or LOADS),
        tuple(options.shape or SHAPES),
        tuple(options.transport or ("plain", "tls")),
        tuple(options.client),
    )
    try:
        for index, name in enumerate(options.only):
            seconds = seconds_for(name, options.only[index + 1 :], options)
            bench.pace = Pace(name, seconds, rounds)
            paces.append(bench.pace)
            SECTIONS[name](bench)
    except KeyboardInterrupt:
        status = 130
        say("cut off: what follows is what was measured until then")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    results = bench.results
    tables = [t for t in (*bench.tables, targets.table(results)) if t.rows]
    made = [count for pace in paces for count in pace.made]
    heading = conditions(made, company(results, quiet))
    left_out = [each for pace in paces for each in pace.left_out]
    if status:
        heading += " The run was cut off before its end."
    print(f"\n{heading}\n\n" + "\n".join(table.text() for table in tables))
    if options.rst:
        options.rst.write_text("\n".join([heading, "", *(t.rst() for t in tables)]))
    if options.json:
        figures = {" / ".join(k): v for k, v in results.figures.items()}
        options.json.write_text(json.dumps(figures, indent=1))
    for each in left_out:
        print(f"left out, for there was no time: {each}", file=sys.stderr)
    for error in dict.fromkeys(results.errors):
        print(f"FAILED: {error}", file=sys.stderr)
    say(f"{time.perf_counter() - options.began:.0f} s (perf_counter)")
    return status or (1 if results.errors else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["soak"]:
        soak.main(sys.argv[2:])
    sys.exit(main())
