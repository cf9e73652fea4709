"""The programs that collect mail: how each is set up for its accounts, and started.

Each keeps what its users would let it keep, the unique-ids of what it has fetched, and
leaves the mail on the server. Each delivers to a Maildir per account, as it does by
default.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.clients import HOST
from benchmarks.runner import Command

PEERS = "POP3CONNECT_PEERS"
"""The environment variable that names the folder of the unpacked packages."""

OURS = "ours, collect"
FETCH = "ours, fetch"
FETCHMAIL = "fetchmail"
MPOP = "mpop"
GETMAIL = "getmail6"


@dataclass(frozen=True)
class Account:
    """A mailbox on the server; the user's name is the account's as well."""

    user: str
    password: str


@dataclass(frozen=True)
class Job:
    """The accounts of one server, and a folder for one collector's state and mail."""

    port: int
    accounts: Sequence[Account]
    folder: Path
    at_once: int | None = None  # sessions, for a collector that can have several

    def maildir(self, account: Account) -> Path:
        """Where the account's mail is to go."""
        return self.folder / "mail" / account.user

    def delivered(self) -> int:
        """The number of messages in all Maildirs."""
        return sum(1 for _ in self.folder.glob("mail/*/new/*"))

    def make(self) -> None:
        """
        Make the folder again, with empty Maildirs and nothing else.

        The one before is put aside and not deleted: ext4 passes over the inodes of
        deleted files for minutes, and takes ten times as long to create a file.
        """
        if self.folder.exists():
            used = (self.folder.with_name(f"{self.folder.name}-{n}") for n in count(1))
            self.folder.rename(next(name for name in used if not name.exists()))
        for account in self.accounts:
            for name in ("cur", "new", "tmp"):
                (self.maildir(account) / name).mkdir(parents=True)

    def write(self, name: str, text: str) -> Path:
        """Write a file that only its owner can read."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path


@dataclass(frozen=True)
class Collector:
    """One competitor: *prepare* writes its configuration and says how to start it."""

    name: str
    prepare: Callable[[Job], Command]
    programs: tuple[str, ...] = ()
    slow: bool = False  # one round is enough where it fetches mail
    single: bool = False  # for one account only

    def missing(self) -> str | None:
        """The program that is not there."""
        return next((p for p in self.programs if find(p) is None), None)


def find(program: str) -> str | None:
    """The path of a program: unpacked, or installed."""
    unpacked = Path(os.environ.get(PEERS) or os.devnull) / "usr/bin"
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(program, path=f"{unpacked}{os.pathsep}{path}")


def start(program: str, *arguments: str, **more: str) -> Command:
    """A peer's command; an unpacked program finds its libraries."""
    found = find(program)
    if found is None:
        raise FileNotFoundError(program)
    environment = dict(more)
    root = os.environ.get(PEERS)
    if root and Path(found).is_relative_to(root):
        libraries = [f"{root}/usr/lib", *map(str, Path(root).glob("usr/lib/*-linux-*"))]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
        environment["PYTHONPATH"] = f"{root}/usr/lib/python3/dist-packages"
    return Command([found, *arguments], environment)


def _collect(job: Job) -> Command:
    accounts = "".join(
        f"""
[[account]]
name = "{account.user}"
user = "{account.user}"
password = "{account.password}"
"""
        for account in job.accounts
    )
    many = f"sessions_per_server = {job.at_once}\n" if job.at_once else ""
    text = f"""state = "state"
server = "{HOST}:{job.port}"
secure = "none"
to = "box"
{many}
[destination.box]
kind = "maildir"
path = "mail/{{account}}"
{accounts}"""
    config = job.write("collect.toml", text)
    twistd = Path(sys.executable).parent / "twistd"
    argv = [str(twistd), "-n", "--pidfile", "", "--logfile", str(job.folder / "log")]
    argv += ["pop3connect", "collect", "--config", str(config), "--once"]
    return Command(argv)


def _fetch(job: Job) -> Command:
    (account,) = job.accounts
    server, target = f"{HOST}:{job.port}", str(job.maildir(account))
    argv = [sys.executable, "-m", "pop3connect", "fetch", server, target]
    argv += ["--secure", "none", "--user", account.user]
    return Command(argv, {"POP3CONNECT_PASSWORD": account.password})


def _fetchmail(job: Job) -> Command:
    users = []
    for account in job.accounts:
        rules = job.write(
            f"procmailrc-{account.user}", f"DEFAULT={job.maildir(account)}/\n"
        )
        users.append(
            f'user {account.user} password {account.password} keep sslproto ""'
            f' mda "{find("procmail")} -m {rules}"\n'
        )
    # One entry for the server; fetchmail takes its users one after another.
    server = f"poll localhost protocol pop3 port {job.port} auth password uidl\n"
    config = job.write("fetchmailrc", server + "".join(users))
    home, pid = str(job.folder), str(job.folder / "pid")
    command = start(
        "fetchmail",
        *("-s", "--nosyslog", "-f", str(config), "--pidfile", pid),
        HOME=home,
        FETCHMAILHOME=home,
    )
    command.statuses = (0, 1)  # 1: there was no new mail
    return command


def _mpop(job: Job) -> Command:
    text = f"""defaults
host {HOST}
port {job.port}
auth user
tls off
keep on
"""
    for account in job.accounts:
        text += f"""
account {account.user}
user {account.user}
password {account.password}
uidls_file {job.folder}/uidls-{account.user}
delivery maildir {job.maildir(account)}
"""
    config = job.write("mpoprc", text)
    return start("mpop", "-q", "-C", str(config), "-a")


def _getmail(job: Job) -> Command:
    arguments = ["-q", "--getmaildir", str(job.folder)]
    for account in job.accounts:
        text = f"""[retriever]
type = SimplePOP3Retriever
server = {HOST}
port = {job.port}
username = {account.user}
password = {account.password}
[destination]
type = Maildir
path = {job.maildir(account)}/
[options]
read_all = false
delete = false
verbose = 0
"""
        rc = job.write(f"getmailrc-{account.user}", text)
        arguments += ["--rcfile", str(rc)]
    command = start("getmail", *arguments, HOME=str(job.folder))
    if os.getuid() == 0:  # it declines to deliver as root
        command.account = "nobody"
        for path in (job.folder, *job.folder.rglob("*")):
            shutil.chown(path, command.account)
    return command


COLLECTORS = {
    each.name: each
    for each in (
        Collector(OURS, _collect),
        Collector(FETCH, _fetch, single=True),
        Collector(MPOP, _mpop, programs=("mpop",)),
        Collector(FETCHMAIL, _fetchmail, programs=("fetchmail", "procmail"), slow=True),
        Collector(GETMAIL, _getmail, programs=("getmail",), slow=True),
    )
}

HABITS = {
    OURS: f"{OURS}: twistd -n pop3connect collect --once; each message is fsynced in "
    "the Maildir, then its row is written to the journal (SQLite, synchronous=FULL), "
    "in groups. 8 sessions per server, which is the default.",
    FETCH: f"{FETCH}: pop3connect fetch --keep, one account into its Maildir.",
    MPOP: "mpop: mpop -a, one account after another, commands pipelined; one fsync per "
    "message, and its list of unique-ids is written when the session ends.",
    FETCHMAIL: "fetchmail: one rc file with all users, keep and uidl; it writes no "
    "files itself, so procmail, a process per message, delivers to the Maildir.",
    GETMAIL: "getmail6: one process with an --rcfile per account, delete = false; it "
    "starts a process per message, which fsyncs, and writes its oldmail file at the "
    "end.",
}
