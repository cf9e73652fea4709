"""
A function for ``collect.toml``.
"""

from twisted.logger import Logger

log = Logger()


async def arrived(message, attempt):
    """Log a new message.  If this raises, the message is tried again later."""
    log.info("{m.account}: {m.sender} wrote: {m.subject}", m=message)
