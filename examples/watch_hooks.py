"""
A hook for ``watch.toml``.
"""

from twisted.logger import Logger

log = Logger()


async def arrived(message):
    """Take note of a new message.  An exception: it is reported again later."""
    log.info("{m.account}: {m.sender} wrote: {m.subject}", m=message)
