"""The collector: takes in the mail of many mailboxes and delivers each message once."""

__all__: list[str] = []
