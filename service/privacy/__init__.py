"""Privacy: erases a person on request, and deletes data whose retention period is over."""
