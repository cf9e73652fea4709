"""
The command line: ``pop3connect info``, ``list``, ``fetch`` and the rest.

It uses the library as any program would, and the library does not depend on it.  It
needs the extra ``cli``; if that is missing, `pop3connect.__main__` says so.
"""

__all__: list[str] = []
