"""pop3connect, through its public names only.

Ways to fetch: ``messages`` (the async iterator), ``deferreds`` (one ``retrieve()``
each, all queued at once), ``streamed`` (the same, each with a consumer), ``into``
(``messages(into=...)``, to a consumer) and ``lockstep`` (``pipeline=False``, each
awaited). With ``profile`` in the task, the
function profile of the RETR phase, or of the logins, goes to standard error; its times
are not to be compared with any others.
"""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import react
from zope.interface import implementer

from benchmarks.workers.common import Clock, answer, finish, job, memory, settled_rss
from pop3connect import Connector, Handle, Secure, connect


@implementer(IConsumer)
class Drop:
    """Counts octets and drops them."""

    octets = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """It need not be paused."""

    def unregisterProducer(self) -> None:
        """Nothing to let go of."""

    def write(self, data: bytes) -> None:
        """Count."""
        self.octets += len(data)


class Ours:
    """The task, and how to connect."""

    def __init__(self, reactor: Any, task: SimpleNamespace) -> None:
        """The arguments of every connect."""
        self.task = task
        self.numbers = range(1, task.count + 1)
        self.options: dict[str, Any] = {"reactor": reactor}
        if task.tls:
            self.options.update(secure=Secure.TLS, cacerts=task.cacerts)
        if task.mode == "lockstep":
            self.options["pipeline"] = False

    def session(self) -> Deferred[Handle]:
        """Connected and logged in."""
        task = self.task
        return connect(
            f"{task.host}:{task.port}", task.user, task.password, **self.options
        )

    async def messages(self, handle: Handle) -> int:
        """Whole messages, by the async iterator."""
        octets = 0
        async for message in handle.messages(self.numbers):
            octets += len(message.content)
        return octets

    async def deferreds(self, handle: Handle) -> int:
        """Whole messages, by callback."""
        octets = 0

        def arrived(content: bytes) -> None:
            nonlocal octets
            octets += len(content)

        await gatherResults(
            [handle.retrieve(n).addCallback(arrived) for n in self.numbers]
        )
        return octets

    async def streamed(self, handle: Handle) -> int:
        """Chunks to a consumer, as they come."""
        drop = Drop()
        await gatherResults([handle.retrieve(n, drop) for n in self.numbers])
        return drop.octets

    async def into(self, handle: Handle) -> int:
        """Chunks to a consumer, by the async iterator."""
        drop = Drop()
        async for _ in handle.messages(self.numbers, into=lambda _: drop):
            pass
        return drop.octets

    async def lockstep(self, handle: Handle) -> int:
        """Whole messages, each awaited."""
        octets = 0
        for number in self.numbers:
            octets += len(await handle.retrieve(number))
        return octets

    async def retrieve(self) -> None:
        """Fetch all."""
        handle = await self.session()
        fetch: Coroutine[Any, Any, int] = getattr(self, self.task.mode)(handle)
        if getattr(self.task, "profile", False):
            await profiled(fetch)
        else:
            with Clock() as clock:
                octets = await fetch
            answer(**clock.figures, messages=self.task.count, octets=octets)
        await handle.disconnect()

    async def login(self) -> None:
        """Log in and out."""
        handle = await self.session()
        await handle.disconnect()

    async def look(self) -> None:
        """What a collector does at an account without news."""
        task = self.task
        handle = await self.connector.connect(task.user, task.password)
        await gatherResults([handle.stat(), handle.uidl(), handle.list()])
        await handle.disconnect()

    async def logins(self) -> None:
        """Log in and out, one after another."""
        await self.again(self.login)

    async def looks(self) -> None:
        """One look after another."""
        self.connector = Connector(f"{self.task.host}:{self.task.port}", **self.options)
        await self.again(self.look)

    async def again(self, once: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Sessions one after another."""
        for _ in range(self.task.warm):
            await once()

        async def again() -> None:
            for _ in range(self.task.count):
                await once()

        if getattr(self.task, "profile", False):
            await profiled(again())
            return
        with Clock() as clock:
            await again()
        answer(**clock.figures)

    async def idle(self) -> None:
        """Hold sessions open; memory before and after."""
        sessions = [await self.session() for _ in range(self.task.warm)]
        before = settled_rss()
        sessions += [await self.session() for _ in range(self.task.count)]
        answer(each=(settled_rss() - before) / self.task.count)
        finish()

    async def peak(self) -> None:
        """Memory of a session that does nothing, then the peak while streaming."""
        handle = await self.session()
        await handle.stat()
        before = memory("VmRSS")
        octets = await self.streamed(handle)
        answer(before=before, messages=self.task.count, octets=octets)
        await handle.disconnect()


async def profiled(fetch: Coroutine[Any, Any, Any]) -> None:
    """Run under the function profiler, and print the heaviest."""
    import cProfile
    import pstats
    import sys

    profile = cProfile.Profile()
    profile.enable()
    await fetch
    profile.disable()
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)


def main(reactor: Any) -> Deferred[None]:
    """Do the task."""
    task = job()
    ours = Ours(reactor, task)
    return Deferred.fromCoroutine(getattr(ours, task.task)())


if __name__ == "__main__":
    react(main)
