"""A real Dovecot, with its own configuration and mail store, on free loopback ports.

Started only where the program is installed; one user a load. The store is mdbox,
Dovecot's own format and its fastest, or a Maildir, where it opens a file for each
message and is so slow with small ones that the client matters less.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.helpers import pin
from benchmarks.loads import VARIANTS, Load, message

PASSWORD = "benchmark"
_CONFIG = """\
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/log
protocols = pop3
listen = 127.0.0.1
ssl = {ssl}
{tls}
disable_plaintext_auth = no
auth_mechanisms = plain
mail_location = {store}:{root}/mail/%u
mail_uid = {owner}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
default_vsz_limit = 0
# The rounds must find the store as the first one did.
pop3_no_flag_updates = yes
{users}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={group} home={root}/mail/%u
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {plain}
  }}
  inet_listener pop3s {{
    port = {pop3s}
    ssl = {ssl}
  }}
}}
"""
_UNPRIVILEGED = """\
default_internal_user = {name}
default_internal_group = {group}
default_login_user = {name}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
"""


def available() -> str | None:
    """The program, if it is installed."""
    return shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Dovecot:
    """A running server; a context manager that ends it and removes its files."""

    def __init__(
        self, boxes: list[tuple[Load, str]], identity: str | None, store: str = "mdbox"
    ) -> None:
        """Lay out the mail store and start."""
        program = available()
        assert program is not None
        self.store = store
        self.root = Path(tempfile.mkdtemp(prefix="pop3bench-"))
        self.root.chmod(0o755)
        self.ports = {"plain": _free_port(), "tls": _free_port()}
        root = os.getuid() == 0
        account = pwd.getpwnam("mail") if root else pwd.getpwuid(os.getuid())
        tls = ""
        if identity is not None:
            tls = f"ssl_cert = <{identity}\nssl_key = <{identity}"
        unprivileged = _UNPRIVILEGED.format(name=account.pw_name, group=account.pw_gid)
        config = _CONFIG.format(
            root=self.root,
            store=store,
            tls=tls,
            ssl="no" if identity is None else "yes",
            owner=account.pw_uid,
            group=account.pw_gid,
            users="" if root else unprivileged,
            password=PASSWORD,
            plain=self.ports["plain"],
            pop3s=self.ports["tls"],
        )
        for load, shape in boxes:
            self._fill(load, shape)
        (self.root / "mail").mkdir(exist_ok=True)
        if root:
            for path in self.root.rglob("*"):
                os.chown(path, account.pw_uid, account.pw_gid)
        path = self.root / "dovecot.conf"
        path.write_text(config)
        self.process = subprocess.Popen([program, "-F", "-c", str(path)])
        pin(self.process.pid, server=True)
        try:
            self._wait()
            if store != "maildir":
                for load, shape in boxes:
                    self._convert(path, self.user(load, shape))
        except BaseException:
            self.close()
            raise

    @staticmethod
    def user(load: Load, shape: str) -> str:
        """The user whose mailbox that is."""
        return f"{load.key}-{shape}"

    def _fill(self, load: Load, shape: str) -> None:
        """A Maildir with the messages, as files with CRLF line ends."""
        parent = self.root / ("mail" if self.store == "maildir" else "import")
        folder = parent / self.user(load, shape)
        for name in ("cur", "new", "tmp"):
            (folder / name).mkdir(parents=True)
        contents = [
            message(shape, load.size, n + 1) for n in range(min(VARIANTS, load.count))
        ]
        for number in range(load.count):
            name = (
                f"{1700000000 + number}.M{number}.bench,S={load.size},W={load.size}:2,S"
            )
            (folder / "cur" / name).write_bytes(contents[number % len(contents)])

    def _convert(self, config: Path, user: str) -> None:
        """Let Dovecot take the Maildir over into its own format."""
        folder = self.root / "import" / user
        command = ["doveadm", "-c", str(config), "import", "-u", user]
        subprocess.run([*command, f"maildir:{folder}", "", "all"], check=True)
        shutil.rmtree(folder)

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(
                    ("127.0.0.1", self.ports["plain"]), timeout=5
                ) as sock:
                    if sock.recv(512).startswith(b"+OK"):
                        return
            except OSError:
                time.sleep(0.1)
        log = self.root / "log"
        text = log.read_text(errors="replace") if log.exists() else ""
        raise RuntimeError(f"Dovecot did not start: {text[-2000:]}")

    def close(self) -> None:
        """End the server and remove its files."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> "Dovecot":
        """Already running."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
