"""Corrections of hubness: scores less what every query gives an item, learnt from a bank.

A hub is near to very many queries, whatever they ask (`vmr.evaluation.diagnosis.hubness`). A *bank*
of training queries tells which items are hubs, so that nothing of the test queries is used, and a
query alone gets the same answer. All corrections here are an *offset* of each gallery item g, added
to the score s(q, g):

- `csls`: −r_k(g)/2, with r_k(g) the mean of the k largest scores of the bank with g. Cross-domain
  similarity local scaling is 2·s(q, g) − r(q) − r(g); its r(q) is constant for a query, and moves
  no rank (Lample, Conneau, Ranzato, Denoyer, Jégou, "Word Translation Without Parallel Data", ICLR
  2018).
- `nnn`: −α·r_k(g), nearest neighbour normalisation (Chowdhury, Wang, Shenoy, Kiela, Schwettmann,
  Thrush, "Nearest Neighbor Normalization Improves Multimodal Retrieval", EMNLP 2024). CSLS is α=½.
- `inverted_softmax`: −(1/β)·log mean_b exp(β·s(b, g)) over bank queries b (Smith, Turban, Hamblin,
  Hammerla, "Offline bilingual word vectors, orthogonal transformations and the inverted softmax",
  ICLR 2017). Theirs is the sum; the mean shifts all items by the same.
- `qb_norm`: the inverted softmax for queries whose best item is in the activation set, the items
  that are best for at least one bank query; other queries keep their plain order (Bogolin,
  Croitoru, Jin, Liu, Albanie, "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022).
- `sinkhorn`: dual-bank Sinkhorn normalisation, see `vmr.evaluation.sinkhorn`.

Direction by direction: `v2m` has videos as queries and as the bank's queries. Scores are those of
`vmr.evaluation.tiles`, so that two equal items have one offset and tie after it as before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vmr.errors import UserError
from vmr.evaluation import checks, metrics, sinkhorn, tiles
from vmr.evaluation.evaluate import summaries
from vmr.evaluation.lists import Direction, ranked_lists, score_rows
from vmr.evaluation.offset_ranks import offset_ranks
from vmr.evaluation.ranks import Ranks
from vmr.evaluation.sinkhorn import Advance

NAMES = {
    "csls": "CSLS",
    "nnn": "NNN",
    "inverted_softmax": "inverted softmax",
    "qb_norm": "QB-Norm",
    "sinkhorn": "dual-bank Sinkhorn",
}
Setting = Mapping[str, float]  # of k, alpha and beta, what the method has

_BETAS = (5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0, 50.0)
GRIDS: Mapping[str, Sequence[Setting]] = {
    "csls": [{"k": k} for k in (5, 10, 20, 50, 100, 200, 500)],
    "nnn": [
        {"k": k, "alpha": alpha}
        for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        for alpha in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    ],
    "inverted_softmax": [{"beta": beta} for beta in _BETAS],
    "qb_norm": [{"beta": beta} for beta in _BETAS],
    "sinkhorn": [{"beta": beta} for beta in (5.0, 10.0, 20.0, 50.0, 100.0)],
}


@dataclass(frozen=True)
class Bank:
    """Embeddings of training items.

    Attributes:
        video_emb: (B,D) unit rows.
        music_emb: (C,D) unit rows.
    """

    video_emb: np.ndarray
    music_emb: np.ndarray

    def queries(self, direction: Direction) -> np.ndarray:
        """Items of the queries' modality: videos of v2m, tracks of m2v."""
        return self.video_emb if direction == "v2m" else self.music_emb

    def items(self, direction: Direction) -> np.ndarray:
        """Items of the gallery's modality."""
        return self.music_emb if direction == "v2m" else self.video_emb


@dataclass(frozen=True)
class Correction:
    """One method at S settings, for a gallery of G items.

    Attributes:
        offsets: (S,G) float32, added to the scores of each item.
        activated: (G,) bool, items that are best for a bank query; None where the offsets hold for
            all queries.
    """

    offsets: np.ndarray
    activated: np.ndarray | None = None


def corrections(
    gallery: np.ndarray,
    bank: Bank,
    direction: Direction,
    settings: Mapping[str, Sequence[Setting]],
    *,
    advance: Advance | None = None,
) -> dict[str, Correction]:
    """Corrections of a gallery (G,D) by a bank, all methods and settings from one pass over it.

    O(G·k) memory beside a tile of scores, for the largest k.

    Args:
        gallery: unit rows, tracks for v2m and videos for m2v.
        bank: training items.
        direction: `v2m` or `m2v`.
        settings: method -> its settings. A k beyond the bank counts all of it.
        advance: function called after each block of the bank.

    Raises:
        UserError: rows that are not of unit length or hold NaN, widths that differ, an unknown
            method or a setting out of range.
    """
    require_settings(settings)
    queries, items = bank.queries(direction), bank.items(direction)
    for name, rows in (("bank queries", queries), ("bank items", items)):
        checks.check_embeddings(name, rows, not_unit="refuse")
        checks.check_widths(name, rows, "gallery", gallery)
    wanted = [one for method, each in settings.items() if method != "sinkhorn" for one in each]
    most = max((int(one["k"]) for one in wanted if "k" in one), default=0)
    betas = sorted({one["beta"] for one in wanted if "beta" in one})
    found = {}
    if wanted:
        seen = _over_bank(gallery, queries, direction, most, betas, "qb_norm" in settings, advance)
        for method, each in settings.items():
            if method != "sinkhorn":
                offsets = np.stack([seen.offset(one) for one in each])
                activated = seen.activated if method == "qb_norm" else None
                found[method] = Correction(offsets, activated)
    if "sinkhorn" in settings:
        sampled = sinkhorn.sampled(queries), sinkhorn.sampled(items)
        scales = [one["beta"] for one in settings["sinkhorn"]]
        found["sinkhorn"] = Correction(
            sinkhorn.offsets(gallery, *sampled, direction, scales, advance=advance)
        )
    return found


def require_settings(settings: Mapping[str, Sequence[Setting]]) -> None:
    """Raises UserError for an unknown method, or a k, α or β out of range."""
    least = {"k": 1.0, "alpha": 0.0, "beta": 0.0}
    for method, each in settings.items():
        if method not in NAMES:
            raise UserError(f"unknown correction {method!r}; expected some of {', '.join(NAMES)}")
        for one in each:
            for name in GRIDS[method][0]:
                value = one.get(name, np.nan)
                if not (np.isfinite(value) and value >= least[name]) or (name, value) == (
                    "beta",
                    0,
                ):
                    expected = {"k": "at least 1", "alpha": "at least 0", "beta": "above 0"}[name]
                    raise UserError(f"{method}: {name} is {value:g}, expected {expected}")


@dataclass(frozen=True)
class _OverBank:
    """What the bank's scores say of each of G items.

    Attributes:
        largest: (G,K) float32, the K largest, descending.
        means: β -> (G,) float64, log of the mean of exp(β·score).
        activated: (G,) bool.
    """

    largest: np.ndarray
    means: Mapping[float, np.ndarray]
    activated: np.ndarray

    def offset(self, setting: Setting) -> np.ndarray:
        """Offset (G,) float32 of CSLS, NNN or the inverted softmax."""
        if "beta" in setting:
            return (-self.means[setting["beta"]] / setting["beta"]).astype(np.float32)
        nearest = self.largest[:, : int(setting["k"])].mean(axis=1, dtype=np.float64)
        return (-setting.get("alpha", 0.5) * nearest).astype(np.float32)


def _over_bank(
    gallery: np.ndarray,
    bank: np.ndarray,
    direction: Direction,
    most: int,
    betas: Sequence[float],
    activation: bool,
    advance: Advance | None,
) -> _OverBank:
    largest = np.full((len(gallery), min(most, len(bank))), -np.inf, np.float32)
    peak = np.full(len(gallery), -np.inf, np.float32)
    sums = np.zeros((len(betas), len(gallery)))
    activated = np.zeros(len(gallery), bool)
    for start in range(0, len(bank), tiles.size()):
        block = bank[start : start + tiles.size()]
        best, row = np.full(len(block), -np.inf, np.float32), np.zeros(len(block), np.int64)
        for first, scores in score_rows(block, gallery, direction):
            span = slice(first, first + scores.shape[1])
            if most:
                largest[span] = _largest(largest[span], scores.T)
            if betas:
                higher = np.maximum(peak[span], scores.max(axis=0))
                apart = scores - higher
                for place, beta in enumerate(betas):
                    # Sums are relative to the highest score so far, so that none overflows.
                    kept = sums[place, span] * np.exp(beta * (peak[span] - higher))
                    sums[place, span] = kept + np.exp(beta * apart).sum(axis=0, dtype=np.float64)
                peak[span] = higher
            if activation:
                nearest = scores.argmax(axis=1)
                score = scores[np.arange(len(block)), nearest]
                row[score > best] = first + nearest[score > best]
                best = np.maximum(best, score)
        if activation:
            activated[row] = True
        if advance is not None:
            advance()
    means = {
        beta: beta * peak.astype(np.float64) + np.log(sums[place] / len(bank))
        for place, beta in enumerate(betas)
    }
    return _OverBank(-np.sort(-largest, axis=1), means, activated)


def _largest(known: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """K largest of each row: (g,K) known and (g,b) new -> (g,K), in any order."""
    k = known.shape[1]
    pool = np.concatenate([known, scores], axis=1)
    return np.partition(pool, pool.shape[1] - k, axis=1)[:, pool.shape[1] - k :]


def corrected_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_label: np.ndarray,
    gallery_label: np.ndarray,
    corrected: Mapping[str, Correction],
    direction: Direction,
    *,
    classes: int = 1,
) -> dict[str, list[Ranks]]:
    """Ranks of each method at each of its settings: (Q,D),(G,D),(Q,),(G,)->method -> S `Ranks`.

    One pass over the scores for all; arguments as of `vmr.evaluation.offset_ranks`.
    """
    plain = np.zeros((1, len(gallery)), np.float32)
    offsets = np.concatenate([plain, *(each.offsets for each in corrected.values())])
    ranks = offset_ranks(
        queries, gallery, query_label, gallery_label, offsets, direction, classes=classes
    )
    found, start = {}, 1
    for method, correction in corrected.items():
        stop = start + len(correction.offsets)
        found[method] = ranks[start:stop]
        if correction.activated is not None:
            lists = ranked_lists(queries, gallery, direction, 1)
            best = np.concatenate([rows[:, 0] for rows, _ in lists])
            switched = correction.activated[best[ranks[0].query]]
            found[method] = [_switched(ranks[0], each, switched) for each in found[method]]
        start = stop
    return found


def _switched(plain: Ranks, corrected: Ranks, switched: np.ndarray) -> Ranks:
    """Ranks of the corrected order for some queries, (Q,) bool, and of the plain one for others."""
    fields = {
        name: np.where(switched[:, None], getattr(corrected, name), getattr(plain, name))
        for name in ("above", "tied", "peers")
    }
    return replace(plain, **fields)


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]  # video_emb (N,D), music_emb (M,D), (N,) index


def _oriented(
    pairs: Pairs, direction: Direction
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries, gallery and their labels."""
    video_emb, music_emb, index = pairs
    tracks = np.arange(len(music_emb))
    if direction == "v2m":
        return video_emb, music_emb, index, tracks
    return music_emb, video_emb, tracks, index


def choose(
    validation: Pairs,
    bank: Bank,
    methods: Sequence[str],
    direction: Direction,
    *,
    advance: Advance | None = None,
) -> dict[str, Setting]:
    """Best setting of each method's grid on validation pairs, by R@10, then MRR, then the first.

    The bank is the same as for the test, and the gallery that of validation. A k beyond the bank is
    left out of the grid; where none remains, k is the bank's size.
    """
    queries, gallery, query_label, gallery_label = _oriented(validation, direction)
    grids = {method: _grid(method, len(bank.queries(direction))) for method in methods}
    corrected = corrections(gallery, bank, direction, grids, advance=advance)
    ranks = corrected_ranks(queries, gallery, query_label, gallery_label, corrected, direction)
    chosen = {}
    for method, each in ranks.items():
        reached = [metrics.summarise(metrics.table_values(one)) for one in each]
        keys = [(found["R@10"], found["MRR"]) for found in reached]
        chosen[method] = grids[method][keys.index(max(keys))]
    return chosen


def _grid(method: str, bank: int) -> Sequence[Setting]:
    grid = GRIDS[method]
    # Of a smaller bank than any k all queries count, and k says so.
    return [one for one in grid if one.get("k", 1) <= bank] or [{**grid[0], "k": bank}]


@dataclass(frozen=True)
class Corrected:
    """One method on a split, at the settings chosen for it.

    Attributes:
        settings: direction -> setting.
        v2m: ranks of the videos' queries.
        m2v: ranks of the tracks' queries.
    """

    settings: Mapping[Direction, Setting]
    v2m: Ranks
    m2v: Ranks


def correct(
    pairs: Pairs,
    bank: Bank,
    validation: Pairs,
    methods: Sequence[str],
    *,
    advance: Advance | None = None,
) -> dict[str, Corrected]:
    """Ranks of pairs after each correction, by method.

    Settings are chosen on validation, for each direction by itself. Nothing but the gallery and the
    labels of `pairs` goes in beside bank and validation.

    Args:
        pairs: (N,D),(M,D),(N,) to rank.
        bank: training items, none of them of `pairs` or `validation`.
        validation: (N',D),(M',D),(N',).
        methods: of `NAMES`.
        advance: function called after each block of the bank.

    Raises:
        UserError: as `pair_ranks` and `corrections`.
    """
    for video_emb, music_emb, index in (pairs, validation):
        checks.check_pairs(index, len(video_emb), len(music_emb))
    chosen: dict[Direction, dict[str, Setting]] = {}
    ranks: dict[Direction, dict[str, list[Ranks]]] = {}
    directions: tuple[Direction, ...] = ("v2m", "m2v")
    for direction in directions:
        chosen[direction] = choose(validation, bank, methods, direction, advance=advance)
        queries, gallery, query_label, gallery_label = _oriented(pairs, direction)
        settings = {method: [setting] for method, setting in chosen[direction].items()}
        corrected = corrections(gallery, bank, direction, settings, advance=advance)
        ranks[direction] = corrected_ranks(
            *(queries, gallery, query_label, gallery_label, corrected, direction),
            classes=metrics.DEPTH,
        )
    return {
        method: Corrected(
            {direction: chosen[direction][method] for direction in directions},
            ranks["v2m"][method][0],
            ranks["m2v"][method][0],
        )
        for method in methods
    }


def evaluate_corrected(
    pairs: Pairs,
    bank: Bank,
    validation: Pairs,
    methods: Sequence[str],
    *,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    advance: Advance | None = None,
) -> dict[str, dict]:
    """Scores pairs after each correction: method -> results, as of `evaluate`, and `settings`.

    Args:
        pairs: as of `correct`, which tells what is learnt from what.
        bank: as of `correct`.
        validation: as of `correct`.
        methods: as of `correct`.
        bootstrap_samples: as of `evaluate`.
        seed: as of `evaluate`.
        advance: as of `correct`.

    Raises:
        UserError: as `correct`.
    """
    tracks, index = np.arange(len(pairs[1])), np.asarray(pairs[2])
    options = {"bootstrap_samples": bootstrap_samples, "seed": seed}
    return {
        method: {
            "settings": {way: dict(setting) for way, setting in each.settings.items()},
            **summaries(each.v2m, each.m2v, index, tracks, **options),
        }
        for method, each in correct(pairs, bank, validation, methods, advance=advance).items()
    }


def in_words(method: str, setting: Setting) -> str:
    """Name of a correction at a setting, such as `CSLS, k = 10`."""
    letters = {"k": "k", "alpha": "α", "beta": "β"}
    told = [f"{letters[name]} = {value:g}" for name, value in setting.items()]
    return ", ".join([NAMES[method], *told])
