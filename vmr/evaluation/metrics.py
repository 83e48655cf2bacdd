"""Metrics of the table, one value per query, and their summary.

Every value is an expectation over random tie-breaking (`vmr.evaluation.ties`), so a model that
maps everything onto one point scores exactly the chance level.
"""

from dataclasses import replace

import numpy as np

from vmr.evaluation import precision, ties
from vmr.evaluation.ranks import Ranks

CUTOFFS = (1, 5, 10, 25, 50, 100)
# Where mAP and nDCG are cut; also the score classes that they need of a query.
DEPTH = 10


def table_values(ranks: Ranks) -> dict[str, np.ndarray]:
    """Columns of the table for each of Q queries: name -> (Q,).

    `R@K` in percent; `MedR` and `MeanR` both hold the expected 1-based rank, to be summarised by
    median and mean; `MRR` in [0, 1]. A query counts by its best-ranked relevant item.
    """
    above, tied, peers = ranks.above[:, 0], ranks.tied[:, 0], ranks.peers[:, 0]
    values = {f"R@{k}": 100.0 * ties.recall(above, tied, peers, k) for k in CUTOFFS}
    rank = ties.expected_rank(above, tied, peers)
    return values | {"MedR": rank, "MeanR": rank, "MRR": ties.reciprocal_rank(above, tied, peers)}


def all_values(ranks: Ranks) -> dict[str, np.ndarray]:
    """`table_values`, and mAP@10 and nDCG@10 in [0, 1], which count all relevant items."""
    return table_values(ranks) | {
        f"mAP@{DEPTH}": precision.average_precision(ranks, DEPTH),
        f"nDCG@{DEPTH}": precision.discounted_gain(ranks, DEPTH),
    }


def summarise(values: dict[str, np.ndarray]) -> dict[str, float]:
    """One number a metric: the median over queries of MedR, the mean of all others."""
    return {
        name: float(np.median(value) if name == "MedR" else np.mean(value))
        for name, value in values.items()
    }


def at_chance(ranks: Ranks) -> Ranks:
    """The same queries and galleries under a model without knowledge: all items tied, C = 1.

    Its expectations are the chance levels, for the gallery sizes and multiplicities in play. With
    one relevant item among G: R@K = min(K, G)/G and an expected rank of (G + 1)/2.
    """
    return replace(
        ranks,
        above=np.zeros_like(ranks.above[:, :1]),
        tied=(ranks.gallery - 1)[:, None],
        peers=ranks.relevant[:, None],
    )
