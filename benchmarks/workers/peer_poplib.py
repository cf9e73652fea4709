"""``poplib`` of the standard library: one command at a time, blocking."""

import poplib
import ssl
from types import SimpleNamespace

from benchmarks.workers.common import Clock, answer, finish, job, settled_rss


def session(
    task: SimpleNamespace, context: ssl.SSLContext | None, port: int | None = None
) -> poplib.POP3:
    """Connected and logged in."""
    port = port or task.port
    client: poplib.POP3
    if context is None:
        client = poplib.POP3(task.host, port)
    else:
        client = poplib.POP3_SSL(task.host, port, context=context)
    client.user(task.user)
    client.pass_(task.password)
    return client


def retrieve(task: SimpleNamespace, context: ssl.SSLContext | None) -> None:
    """Fetch all; each message is a list of lines, and is dropped."""
    client = session(task, context)
    octets = 0
    with Clock() as clock:
        for number in range(1, task.count + 1):
            octets += client.retr(number)[2]
    client.quit()
    answer(**clock.figures, messages=task.count, octets=octets)


def login(task: SimpleNamespace, context: ssl.SSLContext | None, look: bool) -> None:
    """Log in and out, and ask for the listings in between."""
    client = session(task, context)
    if look:
        client.stat()
        client.uidl()
        client.list()
    client.quit()


def logins(
    task: SimpleNamespace, context: ssl.SSLContext | None, look: bool = False
) -> None:
    """One after another."""
    for _ in range(task.warm):
        login(task, context, look)
    with Clock() as clock:
        for _ in range(task.count):
            login(task, context, look)
    answer(**clock.figures)


def looks(task: SimpleNamespace, context: ssl.SSLContext | None) -> None:
    """The same with the listings."""
    logins(task, context, look=True)


def idle(task: SimpleNamespace, context: ssl.SSLContext | None) -> None:
    """Hold sessions open; memory before and after."""
    sessions = [session(task, context) for _ in range(task.warm)]
    before = settled_rss()
    sessions += [session(task, context) for _ in range(task.count)]
    answer(each=(settled_rss() - before) / task.count)
    finish()


def main() -> None:
    """Do the task."""
    task = job()
    context = ssl.create_default_context(cafile=task.ca) if task.tls else None
    tasks = {"retrieve": retrieve, "logins": logins, "looks": looks, "idle": idle}
    tasks[task.task](task, context)


if __name__ == "__main__":
    main()
