"""The HTTP server: its process, connections and their limits."""
