"""The Twisted side of a session: the protocol, its time limits, bodies in motion."""

__all__: list[str] = []
