"""The console: the service's numbers as pages, for people who decide on them. It reads only what the API answers."""
