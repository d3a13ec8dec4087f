"""Alarms: problems that an operator must know about."""
