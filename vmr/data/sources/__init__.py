"""Sources of pairs: readers of public datasets and feature files, and planted pairs."""
