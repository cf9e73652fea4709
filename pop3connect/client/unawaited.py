"""
A Deferred whose failure may go unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

__all__ = ["UnawaitedDeferred"]

T = TypeVar("T")


class UnawaitedDeferred(Deferred[T]):
    """
    A Deferred that is silent about some errors if nothing was ever attached to it.

    Twisted logs the failure of a Deferred that was never handled.  Here an error of
    these kinds is kept until something is attached to the Deferred, awaits it or takes
    its `result`, and is dropped with the Deferred otherwise.

    :param silent: the kinds of errors.
    :param canceller: see `Deferred`.
    """

    def __init__(
        self,
        silent: tuple[type[BaseException], ...],
        canceller: Callable[[Deferred[Any]], None] | None = None,
    ) -> None:
        super().__init__(canceller)
        self._silent = silent
        self._watched = False
        self._kept: Failure | None = None

    def errback(self, fail: Any = None) -> None:
        """Fail; keep the failure if it is one that may go unseen."""
        failure = Failure(fail) if isinstance(fail, BaseException) else fail
        if (
            self._watched
            or self.called
            or not isinstance(failure, Failure)
            or failure.check(*self._silent) is None
        ):
            super().errback(failure)
        else:
            self.called = True
            self._kept = failure

    def _attach(self) -> None:
        """Report a failure as any other Deferred does, from now on."""
        self._watched = True
        kept, self._kept = self._kept, None
        if kept is not None:
            self.called = False
            super().errback(kept)

    @property
    def result(self) -> Any:
        """
        The result, if there is one.

        A Deferred that is returned from a callback of another one is not attached to:
        Twisted looks at this attribute, and fires the other one in turn.
        """
        self._attach()
        try:
            return self.__dict__["result"]
        except KeyError:
            raise AttributeError("result") from None

    @result.setter
    def result(self, value: Any) -> None:
        self.__dict__["result"] = value

    # All other ways to attach something go through one of these.

    def addCallbacks(self, *arguments: Any, **keywords: Any) -> Any:
        """Attach callbacks, as `Deferred.addCallbacks`."""
        self._attach()
        return super().addCallbacks(*arguments, **keywords)

    def addCallback(self, *arguments: Any, **keywords: Any) -> Any:
        """Attach a callback, as `Deferred.addCallback`."""
        self._attach()
        return super().addCallback(*arguments, **keywords)

    def addErrback(self, *arguments: Any, **keywords: Any) -> Any:
        """Attach an errback, as `Deferred.addErrback`."""
        self._attach()
        return super().addErrback(*arguments, **keywords)

    def addBoth(self, *arguments: Any, **keywords: Any) -> Any:
        """Attach a callback for both, as `Deferred.addBoth`."""
        self._attach()
        return super().addBoth(*arguments, **keywords)

    def chainDeferred(self, d: Deferred[Any]) -> Any:
        """Chain another Deferred, as `Deferred.chainDeferred`."""
        self._attach()
        return super().chainDeferred(d)

    def __iter__(self) -> Any:
        """Await it."""
        self._attach()
        return super().__iter__()

    def __await__(self) -> Generator[Any, None, T]:
        """Await it."""
        self._attach()
        return super().__await__()

    def cancel(self) -> None:
        """Cancel it; nothing is done if it has failed already."""
        if self._kept is None:
            super().cancel()
