"""TLS: which certificates are trusted, whose they must be, contexts, and startTLS."""

__all__: list[str] = []
