"""The feed: the latest state of each recipient, in the order of its last change."""
