"""Exports: recipients, attempts and batches as files."""
