"""Reconciliation: compares our counts with the provider's and heals lost calls."""
