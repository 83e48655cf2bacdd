"""Contenders of `tools.bench_losses`, a file for each library, imported in its process alone."""
