"""Who takes part: a name, and how to start it for a target.

The workers measure their own RETR phase; of the programs only the whole process is
known.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.runner import Command, worker

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Target:
    """A mailbox on a server."""

    port: int
    tls: bool
    ca: str
    cacerts: str
    count: int
    user: str = "user"
    password: str = "benchmark"
    wire: int = 0  # octets of all replies to RETR, where known
    host: str = HOST


@dataclass(frozen=True)
class Client:
    """One competitor."""

    name: str
    command: Callable[[Target, Path], Command]
    program: str | None = None  # a program has no RETR figures
    slow: bool = False  # one round is enough
    ours: bool = False

    @property
    def installed(self) -> bool:
        """Whether it can take part."""
        return self.program is None or shutil.which(self.program) is not None


def _worker(module: str, mode: str) -> Callable[[Target, Path], Command]:
    def command(target: Target, scratch: Path) -> Command:
        return worker(module, task="retrieve", mode=mode, **asdict(target))

    return command


def _mpop(target: Target, scratch: Path) -> Command:
    tls = f"tls on\ntls_starttls off\ntls_trust_file {target.ca}"
    text = f"""account default
host {target.host}
port {target.port}
user {target.user}
password {target.password}
auth user
keep on
only_new off
received_header off
uidls_file {scratch}/uidls
delivery mbox /dev/null
{tls if target.tls else "tls off"}
"""
    return Command(["mpop", "-q", "-C", _private(scratch / "mpoprc", text)])


def _curl(target: Target, scratch: Path) -> Command:
    scheme = "pop3s" if target.tls else "pop3"
    url = f"{scheme}://{target.host}:{target.port}/[1-{target.count}]"
    account = f"{target.user}:{target.password}"
    argv = [
        "curl",
        "-s",
        "--sasl-ir",
        "--cacert",
        target.ca,
        "-u",
        account,
        "-o",
        "/dev/null",
        url,
    ]
    return Command(argv)


def _fetchmail(target: Target, scratch: Path) -> Command:
    tls = f"ssl sslproto tls1.2+ sslcertck sslcertfile {target.ca}"
    # It compares names only, so it gets one; both lead to the same address.
    text = f"""poll localhost protocol pop3 port {target.port} auth password
 user {target.user} password {target.password} fetchall keep
 {tls if target.tls else "sslproto ''"} bsmtp /dev/null
"""
    rc = _private(scratch / "fetchmailrc", text)
    pid = str(scratch / "fetchmail.pid")
    argv = ["fetchmail", "-s", "--nosyslog", "-f", rc, "--pidfile", pid]
    return Command(argv, {"HOME": str(scratch), "FETCHMAILHOME": str(scratch)})


def _getmail(target: Target, scratch: Path) -> Command:
    folder = scratch / "maildir"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("cur", "new", "tmp"):
        (folder / name).mkdir(parents=True)
    text = f"""[retriever]
type = SimplePOP3{"SSL" if target.tls else ""}Retriever
server = {target.host}
port = {target.port}
username = {target.user}
password = {target.password}
{f"ca_certs = {target.ca}" if target.tls else ""}
[destination]
type = Maildir
path = {folder}/
[options]
read_all = true
delete = false
verbose = 0
received = false
delivered_to = false
"""
    _private(scratch / "getmailrc", text)
    account = None
    if os.getuid() == 0:  # it declines to deliver as root
        account = "nobody"
        for path in (scratch, *scratch.rglob("*")):
            shutil.chown(path, account)
    argv = ["getmail", "-q", "--getmaildir", str(scratch)]
    return Command(argv, {"HOME": str(scratch)}, account)


def _private(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


MESSAGES = "ours, messages()"
DEFERREDS = "ours, retrieve() each"
STREAMED = "ours, streamed"
INTO = "ours, messages(into)"
LOCKSTEP = "ours, pipeline=False"
POP3CLIENT = "pop3client"
POPLIB = "poplib"
BARE = "bare receive loop"
SINK = "sink"

CLIENTS = {
    client.name: client
    for client in (
        Client(MESSAGES, _worker("ours", "messages"), ours=True),
        Client(DEFERREDS, _worker("ours", "deferreds"), ours=True),
        Client(STREAMED, _worker("ours", "streamed"), ours=True),
        Client(INTO, _worker("ours", "into"), ours=True),
        Client(LOCKSTEP, _worker("ours", "lockstep"), ours=True),
        Client(POP3CLIENT, _worker("peer_pop3client", "reused")),
        Client(POPLIB, _worker("peer_poplib", "blocking")),
        Client(BARE, _worker("bare", "loop")),
        Client(SINK, _worker("bare", "sink")),
        Client("mpop", _mpop, program="mpop"),
        Client("curl", _curl, program="curl"),
        Client("fetchmail", _fetchmail, program="fetchmail", slow=True),
        Client("getmail6", _getmail, program="getmail", slow=True),
    )
}
