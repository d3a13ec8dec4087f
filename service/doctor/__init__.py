"""``outcomes doctor``: everything that an operator would check before going live, or during an incident.

Each check is a function that returns findings with their remedies. Checks write only the heartbeat's row, which proves
that commits work, and the count of calls to the provider. Findings contain no secrets and no personal data.
"""
