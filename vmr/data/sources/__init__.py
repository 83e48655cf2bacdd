"""Sources: what pairs come from, opened to be written as a dataset."""
