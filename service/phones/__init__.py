"""Phones: reads the spellings of people and providers into the one form that is stored and compared."""
