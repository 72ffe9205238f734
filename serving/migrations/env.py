"""Run by Alembic; the connection comes from `serving.db.upgrade`."""

from __future__ import annotations

from alembic import context

from serving import desk_tables, integration_tables, recall_tables  # noqa: F401 - their tables belong to the metadata
from serving.db import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
