"""Retrieval evaluation: embeddings and pair indices in, exact ranks and honest tables out."""

from vmr.evaluation import metrics
from vmr.evaluation.items import SegmentedItems
from vmr.evaluation.ranks import Ranks, group_ranks, pair_ranks
from vmr.evaluation.results import evaluate, recalls
from vmr.evaluation.segments import evaluate_segments
from vmr.evaluation.side_by_side import compare
from vmr.evaluation.table import render, render_markdown
from vmr.evaluation.verdicts import render_text as render_comparison

__all__ = [
    "Ranks",
    "SegmentedItems",
    "compare",
    "evaluate",
    "evaluate_segments",
    "group_ranks",
    "metrics",
    "pair_ranks",
    "recalls",
    "render",
    "render_comparison",
    "render_markdown",
]
