"""Exact ranks by score plus an offset of the item, for many settings in one pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vmr.errors import UserError
from vmr.evaluation import checks, sides, tiles
from vmr.evaluation.checks import NotUnit
from vmr.evaluation.lists import Direction
from vmr.evaluation.ranks import Ranks
from vmr.evaluation.sides import Side


def offset_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_label: np.ndarray,
    gallery_label: np.ndarray,
    offsets: np.ndarray,
    direction: Direction,
    *,
    classes: int = 1,
    not_unit: NotUnit = "refuse",
) -> list[Ranks]:
    """Ranks by score plus an offset of the item: (Q,D),(G,D),(Q,),(G,),(S,G)->`Ranks` of each of S.

    One direction, and one pass over the scores for all S settings. With offsets of 0 these are the
    ranks of `group_ranks`. Keys are sums in float32; equal items with equal offsets tie.

    Args:
        queries: (Q,D) videos for v2m, tracks for m2v.
        gallery: (G,D) the other side.
        query_label: (Q,) integers or strings; equal labels are relevant.
        gallery_label: (G,) likewise.
        offsets: (S,G) finite.
        direction: `v2m` or `m2v`.
        classes: as of `pair_ranks`.
        not_unit: as of `pair_ranks`.

    Raises:
        UserError: as `group_ranks`, or offsets are of another shape or not finite.
    """
    queries = checks.check_embeddings("queries", queries, not_unit=not_unit)
    gallery = checks.check_embeddings("gallery", gallery, not_unit=not_unit)
    checks.check_widths("queries", queries, "gallery", gallery)
    query_label = checks.check_labels("query_label", query_label, len(queries))
    gallery_label = checks.check_labels("gallery_label", gallery_label, len(gallery))
    offsets = np.asarray(offsets, np.float32)
    if offsets.ndim != 2 or offsets.shape[1] != len(gallery) or not np.isfinite(offsets).all():
        raise UserError(
            f"offsets: expected finite numbers (settings, {len(gallery)}), found {offsets.shape}"
        )
    if not np.isin(query_label, gallery_label).any():
        raise UserError("no query and item share a label; expected at least one pair")
    labels = sides.numbered(query_label, gallery_label)
    asked = Side(queries, *labels, classes=classes, padding=tiles.VIDEO_PADDING)
    items = Side(gallery, *labels[::-1], classes=1, padding=tiles.MUSIC_PADDING)
    return _offset_ranks(asked, items, offsets, direction)


def _offset_ranks(
    asked: Side, items: Side, offsets: np.ndarray, direction: Direction
) -> list[Ranks]:
    size = asked.size
    shifts = np.zeros((len(offsets), items.tiles * size), np.float32)
    shifts[:, : len(items.order)] = offsets[:, items.order]
    load_item = functools.lru_cache(sides.BLOCK)(items.load)

    def scored(i: int, j: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Scores (T,T) with queries as rows, labels of both, offsets (S,T)."""
        (query, query_label), (item, item_label) = asked.load(i), load_item(j)
        # The product takes videos first: the other way round its last bits might differ.
        scores = sides.score(query, item) if direction == "v2m" else sides.score(item, query).T
        span = slice(j * size, (j + 1) * size)
        return scores, query_label, item_label, jnp.asarray(shifts[:, span])

    found = []
    shape = len(offsets), size, asked.classes
    for i, (low, high) in enumerate(sides.band(asked.spans, items.spans)):
        best = jnp.full(shape, -jnp.inf, jnp.float32)
        for j in range(low, high):
            best = tiles.merge_shifted(*scored(i, j), best)
        best = jnp.where(jnp.isneginf(best), jnp.inf, best)  # as in `_find_relevant`
        counts = [np.zeros(shape, np.int64) for _ in range(3)]
        for j in range(items.tiles):
            for total, part in zip(counts, tiles.count_shifted(*scored(i, j), best), strict=True):
                total += np.asarray(part)
        found.append(counts)
    above, tied, peers = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
    query = np.flatnonzero(asked.relevant > 0)
    relevant = asked.relevant[query]
    return [
        Ranks(
            query=query,
            relevant=relevant,
            gallery=len(items.embeddings) - relevant + 1,
            above=asked.in_given_order(above[setting])[query],
            tied=asked.in_given_order(tied[setting])[query],
            peers=asked.in_given_order(peers[setting])[query],
        )
        for setting in range(len(offsets))
    ]
