"""TLS: which certificates are trusted, for which names; contexts, and startTLS."""

__all__: list[str] = []
