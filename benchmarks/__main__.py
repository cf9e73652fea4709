"""The command: ``python -m benchmarks [NAME]... [--quick] [--rst FILE]``.

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
from benchmarks.quiet import Quiet
from benchmarks.report import Table, conditions, say
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


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="pop3connect beside its peers; prints tables of figures.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    add("--quick", action="store_true", help="one round of less, within a minute")
    add("--rounds", type=int, help="how many (5, or 1 with --quick)")
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
    began, quiet = time.perf_counter(), Quiet()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and clean up
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
    try:
        bench = Bench(
            Identity(scratch),
            scratch,
            options.rounds or (1 if options.quick else 5),
            options.quick,
            tuple(options.load or LOADS),
            tuple(options.shape or SHAPES),
            tuple(options.transport or ("plain", "tls")),
            tuple(options.client),
        )
        tables: list[Table] = []
        for name in options.only:
            tables += SECTIONS[name](bench)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    goals = targets.table(bench.results)
    tables = [t for t in (*tables, goals) if t.rows]
    heading = conditions(bench.rounds, company(bench.results, quiet))
    print(f"\n{heading}\n\n" + "\n".join(table.text() for table in tables))
    if options.rst:
        options.rst.write_text("\n".join([heading, "", *(t.rst() for t in tables)]))
    if options.json:
        figures = {" / ".join(k): v for k, v in bench.results.figures.items()}
        options.json.write_text(json.dumps(figures, indent=1))
    for error in dict.fromkeys(bench.results.errors):
        print(f"FAILED: {error}", file=sys.stderr)
    say(f"{time.perf_counter() - began:.0f} s (perf_counter)")
    return 1 if bench.results.errors else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["soak"]:
        soak.main(sys.argv[2:])
    sys.exit(main())
