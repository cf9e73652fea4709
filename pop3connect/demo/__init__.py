"""The demo service: a server with sample mail, and a tour of it by the client."""

__all__: list[str] = []
