"""The provider's contract and nothing else: its signature, its events, its HTTP API."""
