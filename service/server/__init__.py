"""The server's connections: who gets one, for how long, and what is refused before any application sees it."""
