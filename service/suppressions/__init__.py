"""Suppressions: the list of people who must not be called."""
