"""Acknowledges webhooks while Postgres is away: groups wait in a NATS JetStream stream until they can be committed."""
