"""Releases: how they are built, what their databases looked like, and that each of those can be upgraded."""
