"""Alembic's environment. The connection and its transaction come from core.storage.migrate; nothing else runs this."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
