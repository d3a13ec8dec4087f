"""Callbacks: results of calls that are a time to call back or a promise, when they are due, and which are done."""
