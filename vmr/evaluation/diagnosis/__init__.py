"""Diagnosis of an embedding: its geometry, its hubs, and suspected false negatives.

Nothing here is needed to train or to score. The measures score a block of rows against the whole
gallery at a time (`similarity`), to within rounding; exact ranks come from `vmr.evaluation.ranks`.
"""
