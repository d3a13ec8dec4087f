"""The ledger: receives webhook bodies, verifies them and commits them."""
