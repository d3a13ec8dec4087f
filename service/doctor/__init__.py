"""``outcomes doctor``: everything that an operator would look at before going live, or at three in the morning.

Each check is a small function that gives findings, each with its remedy. They change nothing but the heartbeat's row,
which proves that commits go through, and the count of calls to the provider. They tell no secret and no person.
"""
