"""Brings the tables of a journal up to date; run by Alembic."""

from alembic import context

from pop3connect.collect.tables import metadata

__all__: list[str] = []

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata
)
with context.begin_transaction():
    context.run_migrations()
