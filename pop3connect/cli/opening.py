"""
Opens the session that the common options describe, and gives it to a command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred

from ..api import connect
from ..handle import Handle
from .access import Access
from .output import tell
from .passwords import read_password
from .running import finish

__all__ = ["end", "log_in", "use_session"]


def log_in(access: Access, password: str, reactor: Any) -> Deferred[Handle]:
    """
    Connect and log in.

    A password goes over a network only with TLS, unless the user wants it so.
    """
    assert access.user is not None
    return connect(
        access.server,
        access.user,
        password,
        access.status_procedure,
        access.secure,
        access.verify,
        cacerts=access.cacerts,
        system_trust=access.system_trust,
        reactor=reactor,
        auth=access.auth,
        timeout=access.timeout,
        pipeline=access.pipeline,
        allow_cleartext=access.allow_cleartext or access.loopback,
        capa=access.capa,
        client_certificate=access.client_certificate,
    )


def use_session(access: Access, use: Callable[[Handle], Awaitable[int]]) -> NoReturn:
    """Do what a command does with a session, and exit with the status it returns."""
    password = read_password(access)

    async def work(reactor: Any) -> int:
        async with await log_in(access, password, reactor) as handle:
            return await use(handle)

    finish(work)


async def end(handle: Handle, *, deletes: bool) -> int:
    """
    End a session (QUIT), and return how many messages are deleted for certain.

    :param deletes: whether messages are marked; then it is told if it fails.
    """
    try:
        return len((await handle.disconnect()).deleted)
    except BaseException:
        # Ctrl-C too: QUIT is on its way by then.
        if deletes:
            tell("NOT deleted, or not for certain: QUIT was not confirmed")
        raise
