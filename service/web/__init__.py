"""HTTP in and out, thin: each module turns requests into calls and answers into JSON."""
