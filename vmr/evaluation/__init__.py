"""Retrieval evaluation: embeddings and pair indices in, exact ranks and honest tables out."""

from vmr.evaluation import metrics
from vmr.evaluation.checks import SegmentedItems
from vmr.evaluation.comparison import compare
from vmr.evaluation.evaluate import evaluate, recalls
from vmr.evaluation.judged import judged_ranks
from vmr.evaluation.lists import ranked_lists
from vmr.evaluation.ranks import Ranks, group_ranks, pair_ranks
from vmr.evaluation.segments import evaluate_segments
from vmr.evaluation.table import render, render_comparison, render_markdown

__all__ = [
    "Ranks",
    "SegmentedItems",
    "compare",
    "evaluate",
    "evaluate_segments",
    "group_ranks",
    "judged_ranks",
    "metrics",
    "pair_ranks",
    "ranked_lists",
    "recalls",
    "render",
    "render_comparison",
    "render_markdown",
]
