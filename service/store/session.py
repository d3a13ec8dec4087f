"""What every session of the service is set to, whatever ALTER SYSTEM, DATABASE or ROLE say."""

SESSION = {
    "TimeZone": "UTC",
    # Where tables are: functions and queries look nowhere else.
    "search_path": "public, pg_temp",
    # How statements see and change the data.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    "transform_null_equals": "off",
    "exit_on_error": "off",
    "gin_fuzzy_search_limit": "0",
    # The service limits time itself, and knows what it then does again.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A commit whose standby may lack it is told by a warning (webhooks/writer.py).
    "client_min_messages": "notice",
    # How text is read and written.
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmlbinary": "base64",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "quote_all_identifiers": "off",
    "timezone_abbreviations": "Default",
}
"""Sent when a connection opens, so that RESET ALL comes back to them. Only names that Postgres 15 knows and that any
role may set. ``client_encoding`` is the driver's, and always UTF8."""
CHECKED = {
    "session_replication_role": ("origin", "triggers and foreign keys do not run"),
}
"""Settings that only a superuser may send: looked at when the service starts."""
