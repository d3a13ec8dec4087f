"""The console, as a browser asks for it."""
