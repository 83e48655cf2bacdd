"""Diagnosis of an embedding: its geometry, its hubs, and suspected false negatives.

Nothing here is needed to train or to score. Every measure takes all scores of a block of rows at a
time (`similarity`); exact ranks with their ties come from `vmr.evaluation.ranks` alone.
"""
