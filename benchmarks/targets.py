"""What must be reached, and whether it was: ratios within one run."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.clients import (
    BARE,
    DEFERREDS,
    INTO,
    LOCKSTEP,
    MESSAGES,
    POP3CLIENT,
    POPLIB,
    STREAMED,
)
from benchmarks.collectors import FETCHMAIL, GETMAIL, MPOP, OURS
from benchmarks.report import Table, times
from benchmarks.results import Results
from benchmarks.sections.logins import (
    FULL,
    LOOK,
    LOOK_FULL,
    LOOK_RESUMED,
    PLAIN,
    RESUMED,
    REUSED,
)


@dataclass(frozen=True)
class Goal:
    """A figure and its bound."""

    text: str
    figure: Callable[[Results], float | None]
    bound: float
    most: bool = False  # the bound is an upper one
    limit: str = ""  # what holds it up, where it is not met


# Profiles and floors of 2026-11-23 to 27, Python 3.11.
_PER_MESSAGE = (
    "A small message costs 7 us: 2 in sre_search and the slice (the bare loop needs "
    "3.7 for all), 1 for Exchange and Retrieve, 3 in the calls of Dialogue.receive, "
    "Fetch.callback and the async generator, the rest in recv and the reactor. A "
    "Twisted protocol that does nothing but count end marks needs 4.2."
)
_PER_DEFERRED = (
    "retrieve() for each of 5,000 messages at once: the Deferreds and gatherResults "
    "take 2.6 us a message. Ten objects wait for each, seven of them Twisted's, and "
    "make Python search the whole program for garbage once, for 3 us a message. "
    "messages(into=...) needs neither. The bare loop needs 3.5."
)
_PER_RECORD = (
    "twisted.protocols.tls hands over each record of 16 KB by itself "
    "(TLSMemoryBIOProtocol._flushReceiveBIO), where the bare loop reads 64 KB: a "
    "protocol that drops all it gets is at 0.87 of the bare loop, 8.5 of pop3client."
)
_SEARCH = (
    "sre_search finds CR LF . at 2.9 GB/s, bytes.find at 1.3 to 1.9, and re has no "
    "quicker way for a first octet; hopping from dot to dot costs more in prose."
)
_ROUND_TRIP = (
    "A turn of the reactor for each message (doPoll, doRead, doWrite, and twice "
    "epoll.modify) is 20 us of its 28; poplib blocks in recv instead. Then both wait "
    "for the server's core to wake up, and it for theirs."
)
_SESSION = (
    "What is ours in a login or a look (arguments, CAPA, the mechanism, masking, the "
    "handle) is 0.2 to 0.3 ms of its 0.6 to 0.8; the reactor and the kernel take the "
    "rest to connect, ask and close. A Twisted protocol that sends the same flights "
    "and does nothing else is at 0.6 to 0.83 of pop3client."
)


_COLLECT = (
    "The start takes 0.57 s, 0.4 of it imports. An account without news costs 1.8 ms "
    "of a core: the session 0.8, the rest is the look, the journal and the hand-over "
    "between their threads; fetchmail needs 0.2 and waits for the server. A message "
    "costs 0.3 ms: the Maildir 0.19, the journal 0.06, the session 0.05; mpop, in all, "
    "0.17, and it waits for each fsync by itself."
)


def _faster(
    case: str, ours: str, peer: str, bound: float, field: str = "retr", limit: str = ""
) -> Goal:
    """So many times as fast as the peer, in a case "server load shape transport"."""
    key = tuple(case.split())
    what = "process" if field == "process" else "RETR"
    return Goal(
        f"{case}, {what}: {ours} by {peer}",
        lambda results: results.ratio((*key, peer, field), (*key, ours, field)),
        bound,
        limit=limit,
    )


def _session(kind: str, peer_kind: str, peer: str, bound: float) -> Goal:
    return Goal(
        f"session CPU, {kind}: ours by {peer} ({peer_kind})",
        lambda results: results.ratio(
            ("logins", kind, "ours", "cpu"), ("logins", peer_kind, peer, "cpu")
        ),
        bound,
        most=True,
        limit=_SESSION,
    )


def _most(text: str, bound: float, scale: float, *key: str) -> Goal:
    def figure(results: Results) -> float | None:
        value = results.get(*key)
        return None if value is None else value / scale

    return Goal(text, figure, bound, most=True)


def _collected(text: str, case: str, peer: str, bound: float, field: str) -> Goal:
    return Goal(
        f"collect ({case}), {text}: ours by {peer}",
        lambda results: results.ratio(
            ("collect", case, peer, field), ("collect", case, OURS, field)
        ),
        bound,
        limit=_COLLECT,
    )


def _synced(case: str, bound: float) -> Goal:
    def figure(results: Results) -> float | None:
        return results.ratio(
            ("collect", case, OURS, "fsyncs"), ("collect", case, OURS, "messages")
        )

    return Goal(
        f"collect ({case}): fsyncs of ours per message", figure, bound, most=True
    )


_SMALL, _LARGE = "fast small base64", "fast large base64"
_DELAY = ("delay", "small", "base64", "plain")

GOALS = [
    _faster(f"{_SMALL} plain", MESSAGES, POP3CLIENT, 12),
    _faster(f"{_SMALL} tls", MESSAGES, POP3CLIENT, 10),
    _faster(f"{_LARGE} plain", STREAMED, POP3CLIENT, 20),
    _faster(f"{_LARGE} tls", STREAMED, POP3CLIENT, 9, limit=_PER_RECORD),
    _faster(f"{_SMALL} plain", MESSAGES, POPLIB, 7),
    _faster(f"{_SMALL} tls", MESSAGES, POPLIB, 6),
    _faster(f"{_LARGE} plain", STREAMED, POPLIB, 15),
    _faster(f"{_LARGE} tls", STREAMED, POPLIB, 7),
    _faster(f"{_SMALL} plain", MESSAGES, BARE, 0.45, limit=_PER_MESSAGE),
    _faster(f"{_SMALL} tls", MESSAGES, BARE, 0.45, limit=_PER_MESSAGE),
    _faster(f"{_LARGE} plain", STREAMED, BARE, 1.8),
    _faster(f"{_LARGE} tls", STREAMED, BARE, 0.8, limit=_PER_RECORD),
    _faster(f"{_SMALL} plain", DEFERREDS, POP3CLIENT, 7),
    _faster(f"{_SMALL} plain", DEFERREDS, POPLIB, 4.5),
    _faster(f"{_SMALL} plain", INTO, BARE, 0.3),
    _faster(f"{_SMALL} plain", STREAMED, BARE, 0.3, limit=_PER_DEFERRED),
    _faster("fast small dots plain", MESSAGES, POP3CLIENT, 2),
    _faster("fast large dots plain", STREAMED, POP3CLIENT, 2),
    _faster("fast large prose plain", STREAMED, BARE, 1.2, limit=_SEARCH),
    _faster("fast large prose tls", STREAMED, BARE, 0.8, limit=_PER_RECORD),
    _faster(f"{_SMALL} plain", LOCKSTEP, POP3CLIENT, 1.6, limit=_ROUND_TRIP),
    _faster(f"{_SMALL} plain", LOCKSTEP, POPLIB, 1.0, limit=_ROUND_TRIP),
    _faster("mdbox small base64 plain", MESSAGES, POP3CLIENT, 6),
    _faster("mdbox small base64 plain", MESSAGES, POPLIB, 4),
    _faster("mdbox small base64 plain", MESSAGES, BARE, 0.9),
    _faster(f"{_LARGE} plain", STREAMED, "curl", 1.0, "process"),
    _faster(f"{_LARGE} plain", STREAMED, "mpop", 1.0, "process"),
    _faster(f"{_SMALL} plain", MESSAGES, "mpop", 0.5, "process"),
    Goal(
        "50 ms round trip: messages() by pipeline=False, scaled",
        lambda r: r.ratio((*_DELAY, MESSAGES, "total"), (*_DELAY, LOCKSTEP, "total")),
        0.02,
        most=True,
    ),
    Goal(
        "50 ms round trip: messages() by mpop, process",
        lambda r: r.ratio((*_DELAY, MESSAGES, "process"), (*_DELAY, "mpop", "process")),
        1.0,
        most=True,
    ),
    _most("peak memory streaming 100 MB, plain: more MB", 10, 1e6,
          "memory", "plain", "ours, streamed", "more"),
    _most("peak memory streaming 100 MB, TLS: more MB", 10, 1e6,
          "memory", "tls", "ours, streamed", "more"),
    _session(LOOK, LOOK, "pop3client", 0.8),
    _session(LOOK_FULL, LOOK_FULL, REUSED, 0.8),
    _session(LOOK_RESUMED, LOOK_FULL, REUSED, 0.8),
    _session(FULL, FULL, REUSED, 1.0),
    _session(RESUMED, FULL, REUSED, 0.7),
    _session(PLAIN, PLAIN, "pop3client", 0.75),
    _most("idle session, plain: KiB", 5, 1024, "idle", "plain", "ours", "each"),
    _most("idle session, TLS: KiB", 50, 1024, "idle", "tls", "ours", "each"),
    _most("import beyond Twisted, CPU ms", 20, 1e-3,
          "imports", "pop3connect, after Twisted", "cpu"),
    _most("import beyond Twisted with ssl, CPU ms", 20, 1e-3,
          "imports", "pop3connect, after Twisted with ssl", "cpu"),
    _collected("accounts/s after the start", "a", FETCHMAIL, 1.4, "later"),
    _collected("accounts/s after the start", "a", MPOP, 8, "later"),
    _collected("accounts/s after the start", "a", GETMAIL, 8, "later"),
    _collected("whole run", "a", FETCHMAIL, 1.4, "wall"),
    _collected("whole run", "a", MPOP, 8, "wall"),
    _collected("whole run", "a", GETMAIL, 8, "wall"),
    _collected("whole run", "b", MPOP, 1.0, "wall"),
    _collected("whole run", "b", GETMAIL, 12, "wall"),
    _synced("b", 1.1),
    _collected("whole run", "c", MPOP, 1.0, "wall"),
    _collected("whole run", "c", GETMAIL, 12, "wall"),
    _synced("c", 1.1),
    _collected("accounts/s after the start", "d", FETCHMAIL, 40, "later"),
    _collected("whole run", "d", FETCHMAIL, 40, "wall"),
]  # fmt: skip


def table(results: Results) -> Table:
    """Every goal that this run has figures for."""
    made = Table("Targets", ("Ratio or figure", "Met", "measured", "wanted"))
    limits = []
    for goal in GOALS:
        value = goal.figure(results)
        if value is None:
            continue
        met = value <= goal.bound if goal.most else value >= goal.bound
        if not met and goal.limit and goal.limit not in limits:
            limits.append(goal.limit)
        sign = "<=" if goal.most else ">="
        made.add(
            goal.text, "yes" if met else "NO", times(value), f"{sign} {goal.bound:g}"
        )
    made.notes = [
        "Ratios of medians of one run: above one is faster than the peer for the RETR "
        "and process rows, below one is cheaper for the others. fast is our server, "
        "mdbox is Dovecot; small 5,000 x 4 KB, large 200 x 1 MB (50 x 1 MB in a quick "
        "run, which is no fair measure of whole processes).",
        *limits,
    ]
    return made
