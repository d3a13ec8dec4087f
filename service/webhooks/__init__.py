"""The ledger: how verified bodies become durable. Its input is a stream of bodies; its output is their commit."""
