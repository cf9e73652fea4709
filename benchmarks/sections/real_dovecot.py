"""Fetching from a real Dovecot, where the server becomes the limit."""

from benchmarks import dovecot
from benchmarks.clients import (
    BARE,
    DEFERREDS,
    LOCKSTEP,
    MESSAGES,
    POP3CLIENT,
    POPLIB,
    STREAMED,
    Target,
)
from benchmarks.contest import HEADER, Bench, Contest
from benchmarks.loads import Load
from benchmarks.report import Table, say

WHO = [
    MESSAGES,
    DEFERREDS,
    STREAMED,
    LOCKSTEP,
    POP3CLIENT,
    POPLIB,
    BARE,
    "mpop",
    "curl",
]
QUICK_WHO = [MESSAGES, POP3CLIENT, POPLIB, BARE]
NOTES = [
    "The store is mdbox, Dovecot's fastest; the last rows are from a Maildir, "
    "where Dovecot opens a file for each message and no client can gain as much. "
    "One fetch before the clock warms its index and the page cache.",
]


def run(bench: Bench) -> None:
    """Its own mdbox for every load; a Maildir for the small one."""
    reason = dovecot.why_unavailable()
    if reason is not None:
        say(f"dovecot: {reason}")
        return
    table = Table("Retrieval from Dovecot", HEADER, notes=NOTES)
    bench.tables.append(table)
    if bench.quick:
        plan = {"mdbox": [("small", "base64")]}
    else:
        plan = {
            "mdbox": [
                (load, shape)
                for load in bench.loads
                for shape in bench.shapes
                if shape != "dots" and (shape == "base64" or load == "small")
            ],
            "maildir": [("small", "base64")] if "small" in bench.loads else [],
        }
    wanted = {
        store: [
            (load, shape, transport)
            for load, shape in boxes
            for transport in bench.transports
            if transport == "plain" or not (bench.quick or store == "maildir")
        ]
        for store, boxes in plan.items()
    }
    bench.pace.expect(sum(map(len, wanted.values())))
    for store, boxes in plan.items():
        mailboxes = [(bench.load(load), shape) for load, shape in boxes]
        if not mailboxes:
            continue
        with dovecot.Dovecot(store) as server:
            for load, shape in mailboxes:
                server.fill(load, shape)
                for transport in bench.transports:
                    if (load.key, shape, transport) not in wanted[store]:
                        continue
                    contest = Contest(
                        bench,
                        store,
                        load,
                        shape,
                        transport,
                        mailbox(server, load, shape, transport),
                    )
                    who = QUICK_WHO if bench.quick else WHO
                    contest.warm(BARE)
                    contest.hold(table, who)


def mailbox(server: dovecot.Dovecot, load: Load, shape: str, transport: str) -> Target:
    """How to reach the mailbox; the server has a certificate authority of its own."""
    box = server.boxes[load, shape]
    return Target(
        server.port if transport == "plain" else server.tls_port,
        transport != "plain",
        f"{server.cacerts}/ca.pem",
        server.cacerts,
        load.count,
        user=box.user,
        password=box.password,
    )
