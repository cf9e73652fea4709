"""
What the demo has to do with twistd: its pid file, and its log.

Both concern the first minute: a second demo in a folder is told what to do, and the
tour is not mixed with twistd's log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)

__all__ = ["already_running", "keep_log_off_stdout", "problems"]


def already_running(twistd: MutableMapping[str, Any]) -> str | None:
    """
    Return what to do about another twistd in this folder; None without one.

    twistd itself ends in that case as well, but knows only its own options.

    :param twistd: the options of twistd.
    """
    # Windows has no pid files.
    pidfile = twistd.get("pidfile")
    if not pidfile:
        return None
    try:
        process = int(Path(pidfile).read_text())
        # Signal 0 only asks whether there is such a process.
        os.kill(process, 0)
    except PermissionError:
        pass
    except (OSError, ValueError, OverflowError):
        # A stale file is removed by twistd, and a broken one is reported.
        return None
    return (
        f"a twistd is running in this folder: {pidfile} names process {process}."
        f" Stop it with Ctrl-C in its terminal, or with: kill {process}\n"
        f"(If that process is not a twistd, delete {pidfile}.)"
        " For a second demo, with its own ports and folder:\n"
        "  twistd -n --pidfile= pop3connect demo --port 0 --tls-port 0 --folder second"
    )


def keep_log_off_stdout(twistd: MutableMapping[str, Any]) -> None:
    """
    Log only problems, and to stderr, if twistd would write its log to stdout.

    Unchanged with one of the options of twistd that say where the log goes, such as
    ``--logfile``.

    :param twistd: the options of twistd.
    """
    chosen = ("logfile", "logger", "syslog")
    if twistd.get("nodaemon") and not any(twistd.get(option) for option in chosen):
        twistd["logger"] = f"{__name__}.problems"


def problems() -> ILogObserver:
    """Return the observer that `keep_log_off_stdout` chooses; twistd calls it."""
    wanted = LogLevelFilterPredicate(LogLevel.warn)
    # It prints itself why it gives up.
    wanted.setLogLevelForNamespace("pop3connect.demo.service", LogLevel.critical)
    return FilteringLogObserver(textFileLogObserver(sys.stderr), [wanted])
