"""
A real Dovecot for the tests to talk to: a child process of the test run, with
a configuration, mailboxes and a certificate authority of its own.

    server = shared()                       # started once, stopped at exit
    mailbox = server.add_user([b"Subject: one\\r\\n\\r\\nHello\\r\\n"])
    await connect(f"localhost:{server.port}", mailbox.user, mailbox.password)

Nothing outside its temporary directory is read or written, not even
``/etc/dovecot``.  It listens on 127.0.0.1 only, on ports that were free.  Every
test adds a user of its own, so tests share the server and nothing else.
"""

from __future__ import annotations

import atexit
import base64
import functools
import grp
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import trustme

#: Set to 1 (the CI does), a missing Dovecot is a failure and not a skip.
REQUIRE = "POP3CONNECT_REQUIRE_INTEROP"

#: Every mechanism that Dovecot can offer with passwords stored as plain text.
MECHANISMS = ("plain", "login", "cram-md5", "apop", "scram-sha-1", "scram-sha-256")

#: Whom the certificate is for, unless a test says otherwise.
NAMES = ("localhost", "127.0.0.1")

#: How long Dovecot may take to greet, or to end, in seconds.  It needs a tenth
#: of one; the rest is for a machine that is busy.
PATIENCE = 20.0

# The address of a UNIX socket has room for 107 octets (104 on BSD), and the
# names that Dovecot puts below its base directory need about 40 of them.
_LONGEST_DIRECTORY = 60


class DovecotError(Exception):
    """
    Dovecot is not here, or would not start.
    """


def _find() -> str | None:
    # It lives in sbin, which is not on the path of an ordinary user.
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("dovecot", path=f"{path}:/usr/sbin:/usr/local/sbin")


@functools.cache
def why_unavailable() -> str | None:
    """
    Say why no Dovecot can be started here, or L{None} if it can.
    """
    binary = _find()
    if binary is None:
        return "no 'dovecot' found: install Dovecot with POP3 (dovecot-pop3d)"
    version = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    # 2.4 has a configuration language of its own.
    if not re.match(r"2\.3\b", version):
        return f"these tests configure Dovecot 2.3, and {binary} is {version or '?'}"
    try:
        _identities()
    except KeyError as missing:
        return f"Dovecot needs user and group names: {missing.args[0]}"
    return None


def skip_reason() -> str | None:
    """
    What to set a test case's C{skip} to: the reason if there is no Dovecot.

    Where L{REQUIRE} is set there is never one, and the tests fail instead.
    """
    if os.environ.get(REQUIRE, "") not in ("", "0"):
        return None
    return why_unavailable()


def _identities() -> tuple[str, str, str]:
    """
    The user and the group of Dovecot's inner and mail processes, and the user
    of those that talk to strangers.
    """
    if os.geteuid() == 0:
        # Dovecot refuses to handle mail as root, whatever it is told.
        inner = pwd.getpwnam("dovecot")
        stranger = pwd.getpwnam("dovenull").pw_name
    else:
        # An ordinary user's Dovecot cannot become anybody else.
        inner = pwd.getpwuid(os.geteuid())
        stranger = inner.pw_name
    return inner.pw_name, grp.getgrgid(inner.pw_gid).gr_name, stranger


def free_ports(count: int) -> list[int]:
    """
    Some free ports.  All are held until the last is found, so they differ.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


class Mailbox:
    """
    One user's account, and the Maildir with what the server has of theirs.

    @ivar user: The name to log in with.
    @ivar password: The password to log in with.
    @ivar directory: The Maildir.
    """

    def __init__(self, user: str, password: str, directory: Path) -> None:
        self.user = user
        self.password = password
        self.directory = directory

    def files(self) -> list[Path]:
        """
        The files of the messages that are there now, in the server's order.
        """
        # New mail lies in new/ until a session has seen it, cur/ thereafter;
        # the name keeps its beginning, and is in order of delivery.
        parts = (self.directory / "cur", self.directory / "new")
        found = [path for part in parts for path in part.iterdir()]
        return sorted(found, key=lambda path: path.name)

    def contents(self) -> list[bytes]:
        """
        What is in those files, byte for byte.
        """
        # A session that has just begun moves new mail meanwhile.
        for _ in range(1000):
            files = self.files()
            try:
                contents = [path.read_bytes() for path in files]
            except FileNotFoundError:
                continue
            if files == self.files():
                return contents
        raise AssertionError(f"the files in {self.directory} do not come to rest")


class Dovecot:
    """
    A Dovecot server, with plain POP3 on L{port} and POP3S on L{tls_port}.

    @ivar host: The one address that it listens on.
    @ivar port: The port for plain POP3, with STLS if C{tls} is true.
    @ivar tls_port: The port for POP3S; nobody is there if C{tls} is false.
    @ivar ca: The authority that signed the server's certificate.
    @ivar cacerts: A folder with that authority's certificate and nothing else.
    """

    host = "127.0.0.1"
    port = 0
    tls_port = 0

    def __init__(
        self,
        *,
        mechanisms: Iterable[str] = MECHANISMS,
        names: Iterable[str] = NAMES,
        tls: bool = True,
        lock_sessions: bool = True,
        sessions_per_user: int = 100,
        more: str = "",
    ) -> None:
        """
        @param mechanisms: The authentication mechanisms to offer.  C{"apop"}
            also puts a timestamp into the greeting.
        @param names: The host names and IP addresses in the certificate.
        @param tls: Whether it can do TLS at all, at once or by STLS.
        @param lock_sessions: Whether a mailbox is locked for one session.  The
            second one hears C{[IN-USE]} after ten seconds or somewhat more.
        @param sessions_per_user: How many sessions one user may have from one
            address at a time.  Another one hears C{[IN-USE]} at once.
        @param more: Added to the configuration.
        """
        self._more = more
        self._mechanisms = tuple(mechanisms)
        self._names = tuple(names)
        self._tls = tls
        self._lock_sessions = lock_sessions
        self._sessions_per_user = sessions_per_user
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._numbers = itertools.count(1)
        self.ca = trustme.CA()

    @property
    def directory(self) -> Path:
        """
        Where everything of this server's lies, while it runs.
        """
        assert self._directory is not None, "not started"
        return self._directory

    @property
    def cacerts(self) -> str:
        """
        The folder to trust.
        """
        return str(self.directory / "cacerts")

    def start(self) -> None:
        """
        Start it, and return when it has greeted.

        @raise DovecotError: It is not here or did not start; says what it said.
        """
        reason = why_unavailable()
        if reason is not None:
            raise DovecotError(reason)
        _RUNNING.append(self)
        try:
            self._prepare()
            # Somebody may take a port between our finding it free and Dovecot's
            # binding it: then try others.
            for last in (False, False, True):
                complaint = self._launch()
                if complaint is None:
                    return
                if last or "in use" not in complaint:
                    raise DovecotError(f"Dovecot did not start:\n{complaint}")
        except BaseException:
            self.stop()
            raise

    def begin_to_stop(self) -> None:
        """
        Tell it and its sessions to end, and do not wait for that.
        """
        if self._process is not None and self._process.poll() is None:
            # The whole group, of which it is the leader.  Told alone, it would
            # let sessions come to their own end, and a client that does nothing
            # puts that off for ten minutes.  A process that has not been waited
            # for keeps its number, so this cannot be somebody else's group.
            os.killpg(self._process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """
        End it, wait until it has ended, and remove all that it had.
        """
        if self in _RUNNING:
            _RUNNING.remove(self)
        self._end()
        directory, self._directory = self._directory, None
        if directory is not None:
            _remove(directory)

    def log(self) -> str:
        """
        What Dovecot has logged so far: for a test that wants to know why.
        """
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def add_user(
        self,
        messages: Iterable[bytes] = (),
        *,
        password: str | None = None,
    ) -> Mailbox:
        """
        Make an account of a new name, with these messages in its mailbox.

        @param messages: The messages, in order, exactly as they go to the disk.
        @param password: A password; one that nobody else has unless given.
        """
        user = f"user{next(self._numbers)}"
        if password is None:
            # Of URL-safe base64 only the letters and digits, so that a test can
            # look for it in a text without minding how that is quoted.
            password = re.sub("[-_]", "x", secrets.token_urlsafe(18))
        home = self.directory / "mail" / user
        mailbox = Mailbox(user, password, home / "Maildir")
        for part in ("cur", "new", "tmp"):
            (mailbox.directory / part).mkdir(parents=True)
        for number, content in enumerate(messages, start=1):
            # Dovecot numbers new mail in the order of these names.
            name = f"{1_700_000_000 + number}.M{number:06d}P1.localhost"
            (mailbox.directory / "new" / name).write_bytes(content)
        inner, group, _ = _identities()
        uid, gid = pwd.getpwnam(inner).pw_uid, grp.getgrnam(group).gr_gid
        if os.geteuid() == 0:
            for path in (home, *home.rglob("*")):
                os.chown(path, uid, gid)
        # In base64, for a colon would end the field.
        encoded = base64.b64encode(password.encode()).decode()
        # One file for each user: Dovecot looks at most once a second whether a
        # file has changed, so one for all could lack the newest user.
        self._write(
            f"users/{user}",
            f"{user}:{{PLAIN.b64}}{encoded}:{uid}:{gid}::{home}\n",
        )
        return mailbox

    def _write(self, name: str, content: str | bytes) -> None:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if os.geteuid() == 0:
            # For Dovecot's inner processes, and for no one else on the machine.
            os.chown(path, pwd.getpwnam(_identities()[0]).pw_uid, -1)
        path.chmod(0o600)

    def _prepare(self) -> None:
        short = len(tempfile.gettempdir()) <= _LONGEST_DIRECTORY
        self._directory = Path(
            tempfile.mkdtemp(prefix="pop3-", dir=None if short else "/tmp")
        )
        for name in ("users", "mail", "cacerts", "run"):
            (self._directory / name).mkdir()
        # As root, processes of other users have to pass through, whatever the
        # umask.
        for path in (self._directory, *self._directory.iterdir()):
            path.chmod(0o711)
        self.ca.cert_pem.write_to_path(str(self._directory / "cacerts" / "ca.pem"))
        certificate = self.ca.issue_cert(*self._names)
        self._write(
            "certificate.pem",
            b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        )
        self._write("key.pem", certificate.private_key_pem.bytes())

    def _launch(self) -> str | None:
        """
        Start the process on fresh ports; return its complaint if it did not.
        """
        self.port, self.tls_port = free_ports(2)
        self._write("dovecot.conf", self._configuration())
        binary = _find()
        assert binary is not None
        (self.directory / "log").unlink(missing_ok=True)
        with open(self.directory / "output", "wb") as output:
            self._process = subprocess.Popen(
                [binary, "-F", "-c", str(self.directory / "dovecot.conf")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env={"PATH": os.defpath},
                # Control-C at the terminal is for the test run, which then
                # ends Dovecot in an orderly way.
                start_new_session=True,
            )
        # It listens almost from the beginning, but only a greeting shows that it
        # can start its other processes.
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                break
            if self._greets():
                return None
            time.sleep(0.01)
        self._end()
        return (self.directory / "output").read_text(errors="replace") + self.log()

    def _end(self) -> None:
        """
        End the process, if there is one, and wait for it.
        """
        self.begin_to_stop()
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                # Its children notice when it is gone.
                process.kill()
                process.wait()

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1.0) as client:
                return client.recv(512).startswith(b"+OK")
        except OSError:
            return False

    def _configuration(self) -> str:
        inner, group, stranger = _identities()
        directory = self.directory
        return f"""
# Written by {Path(__file__).name} for one run of the tests.
protocols = pop3
listen = {self.host}
base_dir = {directory}/run
state_dir = {directory}/run
instance_name = {directory.name}
log_path = {directory}/log
default_internal_user = {inner}
default_internal_group = {group}
default_login_user = {stranger}
first_valid_uid = 1
first_valid_gid = 1

ssl = {"yes" if self._tls else "no"}
ssl_cert = <{directory}/certificate.pem
ssl_key = <{directory}/key.pem

disable_plaintext_auth = no
auth_mechanisms = {" ".join(self._mechanisms)}
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = {directory}/users/%u
}}
userdb {{
  driver = passwd-file
  args = {directory}/users/%u
}}

mail_location = maildir:~/Maildir
mail_fsync = never
mail_max_userip_connections = {self._sessions_per_user}
pop3_lock_session = {"yes" if self._lock_sessions else "no"}

# One login process serves everybody, and is there before anybody calls.  No
# process changes its root, which only root may.
service pop3-login {{
  chroot =
  service_count = 0
  process_min_avail = 1
  process_limit = 1
  inet_listener pop3 {{
    port = {self.port}
  }}
  inet_listener pop3s {{
    port = {self.tls_port if self._tls else 0}
    ssl = yes
  }}
}}
service pop3 {{
  # The process of a finished session takes the next one.
  service_count = 0
  process_limit = 200
}}
service anvil {{
  chroot =
  # No penalty for wrong passwords: it would grow with every test that has one.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
{self._more}
"""


def _remove(directory: Path) -> None:
    # A mail process that was in the middle of something may outlive its master
    # by a moment, and write one more file.
    ends = time.monotonic() + PATIENCE
    while directory.exists():
        try:
            shutil.rmtree(directory)
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


_RUNNING: list[Dovecot] = []


@atexit.register
def _stop_all() -> None:
    """
    Leave nothing behind, also when the test run was interrupted.
    """
    # Dovecot may take a second to end: let all of them do so at the same time.
    for server in _RUNNING:
        server.begin_to_stop()
    for server in list(_RUNNING):
        server.stop()


_SHARED: dict[tuple[object, ...], Dovecot] = {}


def shared(
    *,
    mechanisms: Iterable[str] = MECHANISMS,
    names: Iterable[str] = NAMES,
    tls: bool = True,
    lock_sessions: bool = True,
    sessions_per_user: int = 100,
) -> Dovecot:
    """
    The running server of these properties, started if this is the first call.

    It runs until the test run ends: trial knows no set-up for a class or a
    module, and one for each test would be slow.
    """
    mechanisms, names = tuple(mechanisms), tuple(names)
    key = (mechanisms, names, tls, lock_sessions, sessions_per_user)
    if key not in _SHARED:
        server = Dovecot(
            mechanisms=mechanisms,
            names=names,
            tls=tls,
            lock_sessions=lock_sessions,
            sessions_per_user=sessions_per_user,
        )
        server.start()
        _SHARED[key] = server
    return _SHARED[key]
