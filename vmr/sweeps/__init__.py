"""Sweeps: many runs as one experiment, their points, their jobs, their results."""
