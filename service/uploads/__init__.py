"""Uploads: a CSV of contacts becomes stored recipients, then a batch that is sent exactly once."""
