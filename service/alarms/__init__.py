"""Alarms: what an operator has to know."""
