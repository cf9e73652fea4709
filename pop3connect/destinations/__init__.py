"""Where mail is stored: Maildir and mbox."""

__all__: list[str] = []
