"""Retrieval evaluation: embeddings and pair indices in, exact ranks and honest tables out."""

from vmr.evaluation.items import SegmentedItems
from vmr.evaluation.ranks import Ranks, group_ranks, pair_ranks
from vmr.evaluation.results import evaluate, recalls
from vmr.evaluation.segments import evaluate_segments
from vmr.evaluation.table import render, render_markdown

__all__ = [
    "Ranks",
    "SegmentedItems",
    "evaluate",
    "evaluate_segments",
    "group_ranks",
    "pair_ranks",
    "recalls",
    "render",
    "render_markdown",
]
