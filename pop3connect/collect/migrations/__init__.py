"""The versions of the journal's tables, for Alembic."""

__all__: list[str] = []
