"""People: who was called in which batches, and what happened to a person, across all batches."""
