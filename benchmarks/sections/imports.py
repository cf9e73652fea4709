"""What importing costs beyond what Twisted itself costs."""

import subprocess
import sys
from collections import defaultdict

from benchmarks.contest import Bench, have_ours
from benchmarks.helpers import CHECKOUT
from benchmarks.report import Table, number
from benchmarks.runner import Command
from benchmarks.runner import run as run_command

TWISTED = (
    "import twisted.internet.reactor, twisted.internet.endpoints, "
    "twisted.internet.task, twisted.protocols.basic"
)
TLS = f"{TWISTED}, twisted.internet.ssl, service_identity"
OURS = "import pop3connect; pop3connect.connect"
CASES = [
    ("the interpreter alone", "pass", "pass"),
    ("Twisted: reactor, endpoints, task, basic", "pass", TWISTED),
    ("the same with twisted.internet.ssl", "pass", TLS),
    ("twisted.mail.pop3, after Twisted", TWISTED, "import twisted.mail.pop3"),
    ("pop3connect, after Twisted", TWISTED, OURS),
    ("pop3connect, after Twisted with ssl", TLS, OURS),
    ("pop3connect with its TLS part, after both", TLS, f"{OURS}, pop3connect.TLSInfo"),
]
NOTES = [
    "Each in a fresh process with compiled modules on disk; wall and CPU are "
    "perf_counter and process_time around the import, process is start to end.",
]
_CODE = """{first}
import time, json
cpu, wall = time.process_time(), time.perf_counter()
{then}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps(dict(wall=wall, cpu=cpu)))"""


def run(bench: Bench) -> None:
    """Fresh processes, in turn; then where our own time goes."""
    table = Table(
        "Import time", ("Import", "wall ms", "CPU ms", "process ms"), notes=NOTES
    )
    bench.tables.append(table)
    try:
        measure(bench)
    finally:
        rows(bench, table)
    if have_ours():
        bench.tables.append(packages())


def measure(bench: Bench) -> None:
    """Every round, in turn."""
    for _ in bench.pace.rounds("all of them"):
        for title, first, then in CASES:
            if "pop3connect" in then and not have_ours():
                continue
            code = _CODE.format(first=first, then=then)
            result = run_command(Command([sys.executable, "-c", code]))
            if result.error is not None:
                bench.results.errors.append(f"{title}: {result.error}")
                continue
            figures = {**result.figures, "process": result.process_wall}
            bench.results.add("imports", title, **figures)


def rows(bench: Bench, table: Table) -> None:
    """The medians, one row an import."""
    for title, *_ in CASES:
        cells = [
            bench.results.get("imports", title, name)
            for name in ("wall", "cpu", "process")
        ]
        if cells[0] is not None:
            table.add(title, *[number(c * 1e3, 1) for c in cells if c is not None])


def packages() -> Table:
    """The packages that importing us loads after Twisted, by ``-X importtime``."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"{TWISTED}\nimport zlib\n{OURS}"],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
    )
    before = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", TWISTED],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        check=False,
    )
    known = {name for name, _ in _importtime(before.stderr)}
    total: dict[str, list[int]] = defaultdict(list)
    for name, micros in _importtime(done.stderr):
        if name not in known:
            total[name.split(".")[0]].append(micros)
    table = Table(
        "What importing pop3connect loads beyond Twisted",
        ("Package", "modules", "self ms"),
    )
    for name, parts in sorted(total.items(), key=lambda item: -sum(item[1]))[:12]:
        table.add(name, len(parts), number(sum(parts) / 1e3, 1))
    table.notes = ["-X importtime, one run; the tracing itself adds to it."]
    return table


def _importtime(text: str) -> list[tuple[str, int]]:
    found = []
    for line in text.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            found.append((parts[2].strip(), int(parts[0])))
    return found
