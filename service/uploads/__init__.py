"""Batches: from a CSV of contacts to recipients that are stored, and an upload that never dials twice."""
