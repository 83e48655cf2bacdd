"""Validation: reports if a dataset is fit for training and evaluation."""
