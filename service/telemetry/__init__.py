"""Telemetry: logs, metrics, traces, and the context of a request."""
