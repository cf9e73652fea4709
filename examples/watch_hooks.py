"""
A hook for ``watch.toml``.
"""

from twisted.logger import Logger

log = Logger()


async def arrived(message):
    """Log a new message.  If this raises, the message is reported again later."""
    log.info("{m.account}: {m.sender} wrote: {m.subject}", m=message)
