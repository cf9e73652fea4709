"""Logging in: the mechanisms, the policy that chooses among them, and the dialogue."""

__all__: list[str] = []
