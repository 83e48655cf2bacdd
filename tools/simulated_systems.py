"""Simulation of two retrieval systems whose true difference is known.

The rank of a query is a monotone function of a normal score, the sum of random effects: difficulty
of the track and of the query, shared by both systems; effects of the system, and of each of its
seeds, on the track and on the query; and an effect of the seed on all queries at once. The defaults
give R@10 near 33 % and MedR near 24 among 1,441 tracks, like video-level features of YouTube-8M.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from vmr import tables
from vmr.errors import UserError
from vmr.evaluation import significance
from vmr.progress_bar import progress_bar

# Rank = gallery · Φ(shift + scale · score), chosen for the R@10 and MedR named above.
_SHIFT, _SCALE = -2.13, 0.75
# Variances (by track, by query) of the effects: shared by both systems, of a system, of a seed.
# They add up to 1, so that `gain` and `scatter` are in standard deviations of a score.
_SHARED, _SYSTEM, _SEED = (0.25, 0.25), (0.1, 0.1), (0.1, 0.2)
# Gauss-Hermite quadrature over the standard normal effect of a seed.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


@dataclass(frozen=True)
class Design:
    """Design of a simulation.

    Attributes:
        seeds: number of seeds of each of the two systems.
        scatter: standard deviation of the effect of a seed on all queries, in standard deviations
            of the score of a query; 0.03 is about one point of R@10.
        gain: advantage of the first system over the second, in the same unit.
        queries: Q, number of queries.
        tracks: number of tracks from which each query draws its own.
        gallery: size of the gallery; ranks run from 1 to this.
    """

    seeds: tuple[int, int] = (3, 3)
    scatter: float = 0.0
    gain: float = 0.0
    queries: int = 600
    tracks: int = 400
    gallery: int = 1441


def draw(
    design: Design, generator: np.random.Generator
) -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Draws per-query metrics of both systems, metric -> (S, Q), and the query's track, (Q,)."""
    track = generator.integers(design.tracks, size=design.queries)

    def effect(variances: tuple[float, float]) -> np.ndarray:
        by_track, by_query = np.sqrt(variances)
        # Queries of one track share its effect: the clusters that the bootstrap must respect.
        tracks = generator.standard_normal(design.tracks)
        return by_track * tracks[track] + by_query * generator.standard_normal(design.queries)

    shared = effect(_SHARED)
    systems = {}
    for name, seeds, mean in zip("AB", design.seeds, _means(design), strict=True):
        own = effect(_SYSTEM)
        offsets = design.scatter * generator.standard_normal(seeds)
        scores = np.stack([mean + shared + own + effect(_SEED) + offset for offset in offsets])
        rank = np.ceil(design.gallery * ndtr(_SHIFT + _SCALE * scores))
        systems[name] = {"R@10": 100.0 * (rank <= 10), "MRR": 1.0 / rank, "MedR": rank}
    return systems, track


def truth(design: Design) -> dict[str, float]:
    """Expected difference of each metric, first system minus second, without simulation."""
    first, second = (_expected(design, mean) for mean in _means(design))
    return {name: first[name] - second[name] for name in first}


def coverage(design: Design, *, repeats: int, samples: int) -> dict[str, float]:
    """Fraction of comparisons whose 95 % interval contains the true difference, by metric."""
    expected = truth(design)
    hits = dict.fromkeys(expected, 0)
    for differences in _comparisons(design, repeats, samples):
        for name, difference in differences.items():
            hits[name] += difference.low <= expected[name] <= difference.high
    return {name: count / repeats for name, count in hits.items()}


def alarms(design: Design, *, repeats: int, samples: int) -> dict[str, float]:
    """Fraction of comparisons with p < 0.05, by metric: false alarms if the gain is 0."""
    hits = dict.fromkeys(truth(design), 0)
    for differences in _comparisons(design, repeats, samples):
        for name, difference in differences.items():
            hits[name] += difference.p < 0.05
    return {name: count / repeats for name, count in hits.items()}


def check(
    designs: Sequence[str],
    scatters: Sequence[str],
    *,
    gain: float,
    queries: int,
    tracks: int,
    repeats: int,
    samples: int,
) -> Iterator[str]:
    """Yields lines of a Markdown table: coverage and false alarms in percent, by design and metric.

    Args:
        designs: numbers of seeds of both systems, e.g. `3x5`.
        scatters: scatters of seeds as text, see `Design`.
        gain: advantage of the first system in the simulations of coverage.
        queries: number of queries in each simulation.
        tracks: number of tracks that the queries draw from.
        repeats: simulations behind each number.
        samples: resamples of each comparison.

    Raises:
        UserError: a design or a scatter cannot be parsed.
    """
    plans = [
        Design(_seeds(design), _scatter(scatter), 0.0, queries, tracks)
        for design, scatter in itertools.product(designs, scatters)
    ]
    names = list(truth(Design()))
    # Binomial standard error of a rate of 5 or 95 %.
    error = 100 * np.sqrt(0.05 * 0.95 / repeats)
    heads = [f"{name} {what}" for what in ("covered", "false alarms") for name in names]
    yield f"{repeats:,} simulations a number; percent, Monte Carlo error ± {error:.1f} at 95 and 5"
    yield ""
    yield from tables.markdown_head(["seeds", "scatter", *heads]).splitlines()
    bar = progress_bar(plans, unit="design")
    for plan in bar:
        with_gain = dataclasses.replace(plan, gain=gain)
        rates = [
            *coverage(with_gain, repeats=repeats, samples=samples).values(),
            *alarms(plan, repeats=repeats, samples=samples).values(),
        ]
        cells = ["{}x{}".format(*plan.seeds), f"{plan.scatter:g}"]
        bar.clear()  # so that the next line of the table does not run into the bar
        yield tables.markdown_row([*cells, *(f"{100 * share:.1f}" for share in rates)])


def _comparisons(
    design: Design, repeats: int, samples: int
) -> Iterator[dict[str, significance.Difference]]:
    for repeat in range(repeats):
        # Gain and scatter do not enter the seed: coverage and false alarms see the same draws.
        systems, track = draw(design, np.random.default_rng([repeat, *design.seeds]))
        pairs = [("A", "B")]
        yield significance.differences(
            systems, track, pairs, samples=samples, seed=repeat
        ).differences[0]


def _seeds(text: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    if not (first.isdecimal() and second.isdecimal() and int(first) and int(second)):
        raise UserError(f"--designs: {text!r}, expected the seeds of both systems as 3x5")
    return int(first), int(second)


def _scatter(text: str) -> float:
    try:
        scatter = float(text)
    except ValueError:
        scatter = -1.0
    if not 0 <= scatter < np.inf:
        raise UserError(f"--scatters: {text!r}, expected a number from 0 up")
    return scatter


def _means(design: Design) -> tuple[float, float]:
    return -design.gain / 2, design.gain / 2


def _expected(design: Design, mean: float) -> dict[str, float]:
    k = np.arange(1, design.gallery + 1)
    score = (ndtri(k / design.gallery) - _SHIFT) / _SCALE - mean
    reached = ndtr(score / np.hypot(1.0, design.scatter))
    # MedR is a median within a run, so its expectation is an integral over seeds: given the effect
    # of a seed, half of its queries rank before this share of the gallery.
    middle = ndtr(_SHIFT + _SCALE * (mean + design.scatter * _NODES))
    return {
        "R@10": 100.0 * float(reached[9]),
        "MRR": float(np.sum(np.diff(reached, prepend=0.0) / k)),
        "MedR": design.gallery * float(_WEIGHTS @ middle / _WEIGHTS.sum()) + 0.5,
    }
