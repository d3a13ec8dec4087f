"""Outcomes of batches. Summaries are read from counters, so their cost does not depend on the size of the batch."""
