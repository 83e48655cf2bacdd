"""Significance of the difference between systems: its 95 % interval, p-value and verdict.

A system is one or more trained runs, its *seeds*, scored on the same queries as all others. Queries
and seeds are two crossed samples, both treated as drawn at random: the difference of interest is
between the methods, over queries and seeds like these. (McCullagh, Bernoulli 6, 2000, and Owen and
Eckles, "Bootstrapping data arrays of arbitrary order", Annals of Applied Statistics 6, 2012, show
why no plain bootstrap gets the variance of crossed samples right.)

*Queries* are many. They are drawn by a paired bootstrap, clustered by track, with the seeds held
fixed (`bootstrap.resampled`). Its variance V_q includes the interaction of seeds and queries.

*Seeds* are few, and an interval from three of them drawn with replacement would be far too narrow.
So their scatter enters by its variance. The variance s² of the seeds' own summaries estimates
σ² + e²: σ² is the variance of seeds over all queries, and e² that of their luck with these queries.
The bootstrap estimates e², as the variance of a seed's distance from its system's mean, and V_q
already includes it. With S seeds of a system, and sums over the two systems,

    V = V_q + max(0, Σ (s² − e²) / S),    ν = V² / Σ (s²/S)² / (S − 1),

ν by Satterthwaite (Biometrics Bulletin 2, 1946), as in Welch's test, and infinite where the seeds
scatter no more than the queries explain. Normal draws of variance V − V_q are added to the
bootstrap's distances from the difference, and the percentile interval of the sums is stretched by
Student's quantile over the normal one. This is Student's t interval where all is normal, and the
percentile bootstrap where seeds add no variance. V_q is multiplied by C / (C − 1), and ν counts its
C − 1 degrees of freedom too, so that intervals from few clusters are wide enough (the expanded
percentile interval of Hesterberg, "What teachers should know about the bootstrap", The American
Statistician 69, 2015).

The *p-value* tests the hypothesis that both methods have the same expectation. It takes the
distances of a randomisation (`bootstrap.randomised`) instead of the bootstrap's, adds the same
normal draws for the seeds, and divides all by √(χ²_ν / ν). With one seed of each system it is
Fisher's randomisation test of the hypothesis that the two trained runs are exchangeable on each
track. `MedR` keeps the bootstrap's distances where a system has several seeds: the mean of their
medians has no value for a single query that could be swapped.

A system of one seed has no scatter. All statements are then about that one run of it (or about its
method, if that has no seed, as CCA). `tools/check_intervals.py` measures how often the intervals
contain the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from vmr.errors import UserError
from vmr.evaluation import bootstrap
from vmr.evaluation.bootstrap import MEDIAN, PERCENT
from vmr.evaluation.metrics import LOWER_IS_BETTER

SAMPLES = 10_000
LEVEL = 0.05
NOTHING = "not distinguishable"
# Relative difference below which two differences count as equal, being sums in another order.
_ROUNDING = 1e-9

Values = Mapping[str, np.ndarray]  # metric -> (S,Q), by seed and query


@dataclass(frozen=True)
class Difference:
    """Difference of one metric between two systems, the first less the second.

    Attributes:
        difference: difference of the means over seeds.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        p: two-sided p-value, not corrected; never 0.
    """

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Compared:
    """Comparison of several systems on the same queries.

    Attributes:
        clusters: number of clusters of queries.
        summaries: system -> metric -> (S,), summary of each of its seeds.
        differences: metric -> `Difference`, for each pair in the order of the call.
    """

    clusters: int
    summaries: dict[str, dict[str, np.ndarray]]
    differences: list[dict[str, Difference]]


def differences(
    systems: Mapping[str, Values],
    cluster: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: bootstrap.Drawn | None = None,
) -> Compared:
    """Compares pairs of systems from their values per query, as explained above.

    Args:
        systems: at least two systems, metric -> (S,Q); the same metrics and queries in all.
        cluster: (Q,) integers or strings, the track of each query.
        pairs: pairs of names; the first less the second.
        samples: number of resamples, and of randomisations.
        seed: seed of the draws; the same seed gives the same result.
        progress: function called with the number of draws added, 2 · samples in all.

    Raises:
        UserError: fewer than two systems, queries or metrics that differ, fewer than two clusters,
            or too few samples for an interval.
    """
    _require_comparable(systems, cluster, samples)
    _, cluster = np.unique(cluster, return_inverse=True)
    clusters = int(cluster.max()) + 1
    names = list(systems)
    metrics = list(systems[names[0]])
    values = {name: np.concatenate([each[name] for each in systems.values()]) for name in metrics}
    ends = np.cumsum([len(each[metrics[0]]) for each in systems.values()])
    runs = [slice(int(start), int(stop)) for start, stop in zip([0, *ends], ends, strict=False)]
    positions = [(names.index(first), names.index(second)) for first, second in pairs]
    # Independent draws for queries, swaps and seeds.
    streams = np.random.SeedSequence(seed).generate_state(3)
    drawn = bootstrap.resampled(
        values, cluster, samples=samples, seed=int(streams[0]), progress=progress
    )
    exchanged = bootstrap.randomised(
        values, cluster, runs, positions, samples=samples, seed=int(streams[1]), progress=progress
    )
    seed_draws = _SeedDraws(samples, int(streams[2]))
    by_run = {
        name: (np.median if name == MEDIAN else np.mean)(values[name], axis=1) for name in metrics
    }
    by_pair: list[dict[str, Difference]] = [{} for _ in pairs]
    for name in metrics:
        measured = [_System(by_run[name][part], drawn[name][:, part], clusters) for part in runs]
        for number, (i, j) in enumerate(positions):
            first, second = measured[i], measured[j]
            single_seeds = not (first.freedom or second.freedom)
            swapped = exchanged[name][:, number] if single_seeds or name != MEDIAN else None
            by_pair[number][name] = _difference(first, second, swapped, clusters, seed_draws)
    summaries = {
        system: {name: by_run[name][part] for name in metrics}
        for system, part in zip(names, runs, strict=True)
    }
    return Compared(clusters, summaries, by_pair)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction of the p-values of a family, which bounds the chance of any false alarm.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979.
    """
    order = np.argsort(p, kind="stable")
    times = len(p) - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(times * np.asarray(p)[order]))
    return [float(value) for value in corrected]


def verdict(metric: str, difference: float, p: float) -> str:
    """Verdict on the first system by its corrected p: `better`, `worse`, `not distinguishable`."""
    if p >= LEVEL or difference == 0:
        return NOTHING
    return "better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "worse"


def scope(system: str, baseline: str, seeds: Sequence[int]) -> str:
    """Caution for intervals where one or both systems have a single seed; empty otherwise."""
    if min(seeds) > 1:
        return ""
    if max(seeds) == 1:
        return "one seed each: this speaks of these two runs, not of the methods"
    alone = (system, baseline)[list(seeds).index(1)]
    return f"one seed of {alone}: this speaks of that run of it, not of its method"


class _System:
    """One metric of one system: its mean, its resamples, and the variances of its seeds.

    Args:
        by_seed: (S,) summary of each seed.
        drawn: (B,S) summary of each seed in each resample.
        clusters: number of clusters of queries.
    """

    def __init__(self, by_seed: np.ndarray, drawn: np.ndarray, clusters: int):
        self.mean = float(by_seed.mean())
        self.drawn = drawn.mean(axis=1)
        self.freedom = len(by_seed) - 1
        # Variances of the mean over seeds: s²/S, and e²/S, the part that the queries explain.
        self.between = self.explained = 0.0
        if self.freedom:
            apart = drawn - self.drawn[:, None]
            self.between = float(by_seed.var(ddof=1)) / len(by_seed)
            luck = float(apart.var(axis=0).sum()) / self.freedom * clusters / (clusters - 1)
            self.explained = luck / len(by_seed)


class _SeedDraws:
    """Normal and χ² draws, one a resample, the same for all pairs."""

    def __init__(self, samples: int, seed: int):
        self._samples, self._seed = samples, seed
        # Quantiles at even steps, shuffled: their variance is right with few resamples too.
        even = (np.arange(samples) + 0.5) / samples
        self.normal = special.ndtri(np.random.default_rng(seed).permutation(even))

    def scale(self, inverse_freedom: float) -> np.ndarray | float:
        """√(ν / χ²_ν), which turns normal draws into Student's t: (B,), or 1 for infinite ν."""
        if not inverse_freedom:
            return 1.0
        # A generator of its own for each call: the draws must not depend on the pairs before.
        generator = np.random.default_rng([self._seed, 1])
        return np.sqrt(
            1 / (inverse_freedom * generator.chisquare(1 / inverse_freedom, self._samples))
        )


def _difference(
    first: _System,
    second: _System,
    swapped: np.ndarray | None,
    clusters: int,
    seed_draws: _SeedDraws,
) -> Difference:
    difference = first.mean - second.mean
    seeded = [system for system in (first, second) if system.freedom]
    # V − V_q, and Σ (s²/S)² / (S − 1), the squared variance over its degrees of freedom.
    extra = max(0.0, sum(system.between - system.explained for system in seeded))
    spread = sum(system.between**2 / system.freedom for system in seeded) if extra else 0.0
    seeds = np.sqrt(extra) * seed_draws.normal if extra else 0.0

    away = (first.drawn - second.drawn - difference) * np.sqrt(clusters / (clusters - 1))
    queries = float(away.var())
    least = min([clusters - 1, *(system.freedom for system in seeded)])
    freedom = _inverse_freedom(spread + queries**2 / (clusters - 1), queries + extra, least)
    low, high = np.percentile(away + seeds, PERCENT) * _stretch(freedom)

    if swapped is None:
        swapped = away  # the mean of several seeds' medians: see the module's docstring
    freedom = _inverse_freedom(spread, float(swapped.var()) + extra, least)
    by_chance = np.abs(swapped + seeds) * seed_draws.scale(freedom)
    as_far = int((by_chance >= abs(difference) * (1 - _ROUNDING) - 1e-12).sum())
    # The observed labels are one of the randomisations, so that p is never 0.
    p = (1 + as_far) / (1 + len(by_chance))
    return Difference(difference, difference + float(low), difference + float(high), p)


def _stretch(inverse_freedom: float) -> float:
    """Student's 97.5 % quantile over the normal one."""
    quantile = PERCENT[1] / 100
    if not inverse_freedom:
        return 1.0
    return float(special.stdtrit(1 / inverse_freedom, quantile) / special.ndtri(quantile))


def _inverse_freedom(spread: float, variance: float, least: int) -> float:
    """1/ν = Σ (part of the variance)² / (its degrees of freedom) / variance²; 0 for infinite ν."""
    # In theory ν is at least the smallest of the parts' own; estimated variances may break that.
    return min(spread / variance**2, 1 / least) if spread and variance else 0.0


def _require_comparable(systems: Mapping[str, Values], cluster: np.ndarray, samples: int) -> None:
    if len(systems) < 2:
        raise UserError(f"a comparison needs at least two systems, found {len(systems)}")
    if samples < 100:
        raise UserError(f"{samples} resamples, expected at least 100 for a 95 % interval")
    first = next(iter(systems.values()))
    for name, values in systems.items():
        if values.keys() != first.keys():
            raise UserError(f"{name} has the metrics {', '.join(values)}, not {', '.join(first)}")
        for value in values.values():
            if not len(value) or value.shape != (len(next(iter(values.values()))), len(cluster)):
                raise UserError(
                    f"{name}: values of shape {value.shape}, expected (seeds, {len(cluster)}) for "
                    "every metric"
                )
    if len(np.unique(cluster)) < 2:
        raise UserError("all queries are of one track: nothing can be said of other tracks")
