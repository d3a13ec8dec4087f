"""Outcomes: what readers get, made from the counters, so that it costs the same at any size of a batch."""
