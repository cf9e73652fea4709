"""
Users of the machine that only one server sees: its own `/etc/passwd`, `/etc/shadow` and
`/etc/pam.d`, for servers that know no other users.

The files are mounted over the machine's in the server's mount namespace.  A new user is
appended in place, which a bind mount shows at once.
"""

from __future__ import annotations

import ctypes
import os
import secrets
from pathlib import Path

_PAM = "auth required pam_unix.so nodelay\naccount required pam_permit.so\n"

#: The numbers of "nobody" and "nogroup": mail belongs to them.
UID = GID = 65534


def _hashed(password: str) -> str:
    # Python's own module crypt is gone in 3.13.
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    setting = f"$5$rounds=1000${secrets.token_hex(8)}"
    hashed: bytes = library.crypt(password.encode(), setting.encode())
    return hashed.decode()


class Accounts:
    """
    The users of one server.

    @param directory: The directory to put the files in.
    @param service: The name that the server asks PAM with.
    """

    def __init__(self, directory: Path, service: str) -> None:
        self._directory = directory
        for name in ("passwd", "shadow"):
            copy = directory / name
            copy.write_bytes(Path("/etc", name).read_bytes())
            copy.chmod(0o644 if name == "passwd" else 0o600)
        (directory / "pam.d").mkdir()
        for name in (service, "other"):
            (directory / "pam.d" / name).write_text(_PAM)

    @property
    def setup(self) -> str:
        """
        The shell commands that mount the files.
        """
        return "\n".join(
            f"mount --bind '{self._directory}/{name}' /etc/{name}"
            for name in ("passwd", "shadow", "pam.d")
        )

    def add_system_user(self, user: str) -> None:
        """
        Add a user that a server runs as, and that cannot log in.
        """
        self._append("passwd", f"{user}:x:{UID - 1}:{GID}::/:/bin/false\n")

    def add(self, user: str, password: str, home: Path) -> None:
        """
        Add a user with a password, whose home is this directory and exists.
        """
        self._append("passwd", f"{user}:x:{UID}:{GID}::{home}:/bin/sh\n")
        self._append("shadow", f"{user}:{_hashed(password)}:19000:0:99999:7:::\n")
        for path in (home, *home.rglob("*")):
            os.chown(path, UID, GID)

    def _append(self, name: str, line: str) -> None:
        with open(self._directory / name, "a") as file:
            file.write(line)
