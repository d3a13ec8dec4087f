"""Privacy: people are taken out when one asks for it, and when what is kept of them has been kept for long enough."""
