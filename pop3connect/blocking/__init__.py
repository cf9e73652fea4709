"""The library for programs that block: the same handle, for threads and scripts."""

from .session import BlockingHandle, connect

__all__ = ["BlockingHandle", "connect"]
