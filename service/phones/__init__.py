"""Phones: how people and providers write them, and the one form in which they are stored and compared."""
