"""What Alembic runs: the steps on the connection that :mod:`tunery.store.upgrade` holds the lock on."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
