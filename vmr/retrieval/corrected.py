"""Exact search in the order of a correction of hubness, by a bank of queries."""

from collections.abc import Mapping

import numpy as np

from vmr.collection import Collection, open_collection
from vmr.errors import UserError
from vmr.evaluation.hubness_corrections import (
    NAMES,
    Bank,
    Setting,
    corrections,
    in_words,
    require_settings,
)
from vmr.evaluation.lists import Direction
from vmr.evaluation.sinkhorn import ITERATIONS
from vmr.retrieval.query import Query, sides_of
from vmr.retrieval.search import Hits, search

# Near to what validation chose on YouTube-8M's music videos; for others, `evaluate --hubness`.
DEFAULTS: Mapping[str, Setting] = {
    "nnn": {"k": 128, "alpha": 0.75},
    "inverted_softmax": {"beta": 12.0},
    "qb_norm": {"beta": 12.0},
    "sinkhorn": {"beta": 10.0},
}


def setting_of(
    method: str, k: int | None = None, alpha: float | None = None, beta: float | None = None
) -> Setting:
    """Setting of a method: its defaults, and what is given instead of them.

    Raises:
      UserError: something is given that the method has not, or is out of range.
    """
    default = DEFAULTS.get(method, {})
    given = {"k": k, "alpha": alpha, "beta": beta}
    for name, value in given.items():
        if value is not None and name not in default:
            has = ", ".join(f"--hubness_{each}" for each in default) or "none of these flags"
            raise UserError(f"--hubness_{name} is not of --hubness={method}, which has {has}")
    setting = {**default, **{name: value for name, value in given.items() if value is not None}}
    if method in DEFAULTS:
        require_settings({method: [setting]})
    return setting


def by_offsets(
    query: Query,
    searched: Collection,
    bank: Collection,
    top: int,
    min_score: float,
    excluded: np.ndarray,
    method: str,
    setting: Setting,
) -> tuple[Hits, np.ndarray, str]:
    """Hits (1, k) in the order of a correction, the corrected scores (k,), and a remark.

    Rows of what is searched and of the bank are held in memory.

    Raises:
      UserError: dual-bank Sinkhorn has no bank of the searched modality.
    """
    rows = np.concatenate(searched.parts)
    direction: Direction = "v2m" if bank.side == "video" else "m2v"
    others = _items_of(bank, searched) if method == "sinkhorn" else rows[:1]
    asked = np.concatenate(bank.parts)
    if "k" in setting:  # told as it is: no more than the bank has
        setting = {**setting, "k": min(setting["k"], len(asked))}
    both = Bank(asked, others) if direction == "v2m" else Bank(others, asked)
    correction = corrections(rows, both, direction, {method: [setting]})[method]
    offsets = correction.offsets[0]
    remark = f"{in_words(method, setting)}: score plus the item's offset, by a bank of "
    remark += f"{len(bank):,} {bank.side} rows of {bank.path}"
    if method == "sinkhorn":
        remark += f" and {len(others):,} {searched.side} rows, {ITERATIONS} iterations"
    if correction.activated is not None:
        nearest = search(query.embedding, searched.parts, 1, excluded=excluded).rows[0, 0]
        if nearest < 0 or not correction.activated[nearest]:
            offsets = np.zeros_like(offsets)
            remark += "; the best item is best for no query of the bank: the order is plain"
    found = search(
        *(query.embedding, searched.parts, top),
        offsets=offsets,
        min_score=min_score,
        excluded=excluded,
    )
    return found, found.scores[0] + offsets[found.rows[0]], remark


def _items_of(bank: Collection, searched: Collection) -> np.ndarray:
    """Embeddings of the searched modality beside the queries of the bank."""
    if searched.side not in sides_of(bank.path):
        raise UserError(
            f"--hubness=sinkhorn needs a bank of {searched.side} too, and {bank.path} holds "
            f"{bank.side} alone: give --queries=FILE.npz of both"
        )
    return np.concatenate(open_collection(bank.path, searched.side).parts)


METHODS = ("none", *NAMES)
