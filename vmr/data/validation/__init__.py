"""Validation: a report that says if a dataset is fit to train on and to be evaluated with."""
