"""The HTTP toolkit that every feature uses. It knows no feature."""
