"""Reconciliation: our counts compared with the provider's own, and what was lost healed."""
