"""Postgres: connections, named SQL, migrations, and the embedded server."""
