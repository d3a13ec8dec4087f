"""Access: the keys of the HTTP API, who acts, and the log of what was done."""
