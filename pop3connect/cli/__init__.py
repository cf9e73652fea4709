"""
The command line: ``pop3connect info``, ``list``, ``fetch`` and the rest.

It uses the library as any program would, and nothing of the library knows of it.  It
needs the extra ``cli``; `pop3connect.__main__` says so where that is missing.
"""

__all__: list[str] = []
