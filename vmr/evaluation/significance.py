"""Significance of the difference between systems: its 95 % interval, p-value and verdict.

A system is one or more trained runs, its *seeds*, scored on the same queries as all others. Queries
and seeds are two crossed samples (McCullagh, Bernoulli 6, 2000, and Owen and Eckles, "Bootstrapping
data arrays of arbitrary order", Annals of Applied Statistics 6, 2012, on why no plain bootstrap
gets such a variance right), and both are treated as drawn at random: the difference that is asked
for is between the methods, over queries and seeds like these.

*Queries* are many. They are drawn by a paired bootstrap, clustered by track, with the seeds held
fixed (`bootstrap.resampled`). Its variance V_q has in it what a seed happens to do on a query.

*Seeds* are few, and to draw three of them with replacement would be far too narrow. Their scatter
enters by its variance. The variance s² of the seeds' own summaries estimates σ² + e², where σ² is
what seeds are worth on all queries, and e² the luck of a seed with these queries, which the
bootstrap knows (the variance of a seed's distance from its system's mean) and V_q already holds.
With S seeds a side

    V = V_q + max(0, Σ_sides (s² − e²) / S),    ν = V² / Σ_sides (s²/S)² / (S − 1),

ν by Satterthwaite (Biometrics Bulletin 2, 1946), as in Welch's test, and infinite where the seeds
scatter no more than the queries explain. To the bootstrap's distances from the difference are added
normal ones of variance V − V_q, and the percentile interval of the sums is stretched by Student's
quantile over the normal one: Student's t interval where all is normal, the percentile bootstrap
where there are no seeds to speak of. V_q is taken times C / (C − 1), and ν counts its C − 1 degrees
of freedom too, so that few clusters are as uncertain as they are (the expanded percentile interval
of Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69, 2015).

The *p-value* is of the hypothesis that both methods have the same expectation. The bootstrap's
distances are replaced by those of a randomisation (`bootstrap.randomised`), to which the seeds add
the same normal ones, all over √(χ²_ν / ν). With one seed a side it is Fisher's randomisation test
of the hypothesis that on each track the two trained runs might as well swap their results. `MedR`
keeps the bootstrap's distances where a side has several seeds: the mean of their medians has no
value on a query to swap.

A system of one seed brings no scatter: then all this speaks of that one run of it (or of its
method, where that has no seed, as CCA). `tools/check_intervals.py` measures how often the intervals
hold the truth.
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
# Differences that differ by rounding alone are equal.
_ROUNDING = 1e-9

Values = Mapping[str, np.ndarray]  # metric -> (S,Q), a system's value in each seed on each query


@dataclass(frozen=True)
class Difference:
    """Difference of one metric between two systems, the first less the second.

    Attributes:
        difference: difference of the means over seeds.
        low: end of its 95 % interval.
        high: the other end.
        p: two-sided, not corrected; never 0.
    """

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Compared:
    """Comparison of several systems on the same queries.

    Attributes:
        clusters: their number.
        summaries: system -> metric -> (S,), the summary of each of its seeds.
        differences: a metric -> `Difference` for each pair, in the order that was asked for.
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
    """Compares pairs of systems from their values per query: see above.

    Args:
        systems: at least two systems, metric -> (S,Q); the same metrics and queries in all.
        cluster: (Q,) integers or strings, the track of each query.
        pairs: pairs of names; the first less the second.
        samples: resamples.
        seed: seed of the resamples; the same seed gives the same answer.
        progress: called with how many draws were added, of 2 · samples in all.

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
    streams = np.random.SeedSequence(seed).generate_state(3)
    drawn = bootstrap.resampled(
        values, cluster, samples=samples, seed=int(streams[0]), progress=progress
    )
    exchanged = bootstrap.randomised(
        values, cluster, runs, positions, samples=samples, seed=int(streams[1]), progress=progress
    )
    luck = _SeedDraws(samples, int(streams[2]))
    reached = {
        name: (np.median if name == MEDIAN else np.mean)(values[name], axis=1) for name in metrics
    }
    found: list[dict[str, Difference]] = [{} for _ in pairs]
    for name in metrics:
        sides = [_System(reached[name][part], drawn[name][:, part], clusters) for part in runs]
        for number, (first, second) in enumerate(positions):
            alone = not (sides[first].freedom or sides[second].freedom)
            by_chance = exchanged[name][:, number] if alone or name != MEDIAN else None
            found[number][name] = _difference(
                sides[first], sides[second], by_chance, clusters, luck
            )
    summaries = {
        system: {name: reached[name][part] for name in metrics}
        for system, part in zip(names, runs, strict=True)
    }
    return Compared(clusters, summaries, found)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of a family, corrected so that its chance of any false alarm is kept.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979.
    """
    order = np.argsort(p, kind="stable")
    times = len(p) - np.arange(len(p))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(times * np.asarray(p)[order]))
    return [float(value) for value in corrected]


def verdict(metric: str, difference: float, p: float) -> str:
    """Verdict on the first system, `better`, `worse` or `not distinguishable`; p as corrected."""
    if p >= LEVEL or difference == 0:
        return NOTHING
    return "better" if (difference < 0) == (metric in LOWER_IS_BETTER) else "worse"


def scope(system: str, baseline: str, seeds: Sequence[int]) -> str:
    """Caution on what an interval speaks of where a system or both have one seed; else empty."""
    if min(seeds) > 1:
        return ""
    if max(seeds) == 1:
        return "one seed each: this speaks of these two runs, not of the methods"
    alone = (system, baseline)[list(seeds).index(1)]
    return f"one seed of {alone}: this speaks of that run of it, not of its method"


class _System:
    """Metric of one system: its mean, its resamples, and the variances of its seeds."""

    def __init__(self, reached: np.ndarray, drawn: np.ndarray, clusters: int):
        """Takes what each seed reaches (S,), and in each resample (B,S)."""
        self.mean = float(reached.mean())
        self.drawn = drawn.mean(axis=1)
        self.freedom = len(reached) - 1
        # Variances of the mean over seeds: as the seeds show it, and as queries explain it.
        self.between = self.explained = 0.0
        if self.freedom:
            apart = drawn - self.drawn[:, None]
            self.between = float(reached.var(ddof=1)) / len(reached)
            luck = float(apart.var(axis=0).sum()) / self.freedom * clusters / (clusters - 1)
            self.explained = luck / len(reached)


class _SeedDraws:
    """Normal and χ² draws, one a resample, the same for all pairs."""

    def __init__(self, samples: int, seed: int):
        self._samples, self._seed = samples, seed
        # Evenly spread, so that few resamples suffice.
        even = (np.arange(samples) + 0.5) / samples
        self.normal = special.ndtri(np.random.default_rng(seed).permutation(even))

    def scale(self, inverse_freedom: float) -> np.ndarray | float:
        """√(ν / χ²_ν), what makes Student's t of a normal draw: (B,), or 1 for infinite ν."""
        if not inverse_freedom:
            return 1.0
        generator = np.random.default_rng([self._seed, 1])
        return np.sqrt(
            1 / (inverse_freedom * generator.chisquare(1 / inverse_freedom, self._samples))
        )


def _difference(
    first: _System, second: _System, exchanged: np.ndarray | None, clusters: int, luck: _SeedDraws
) -> Difference:
    difference = first.mean - second.mean
    sides = [side for side in (first, second) if side.freedom]
    extra = max(0.0, sum(side.between - side.explained for side in sides))
    # Σ (s²/S)² / (S − 1), the squared variance over its degrees of freedom.
    spread = sum(side.between**2 / side.freedom for side in sides) if extra else 0.0
    seeds = np.sqrt(extra) * luck.normal if extra else 0.0

    away = (first.drawn - second.drawn - difference) * np.sqrt(clusters / (clusters - 1))
    queries = float(away.var())
    least = min([clusters - 1, *(side.freedom for side in sides)])
    freedom = _inverse_freedom(spread + queries**2 / (clusters - 1), queries + extra, least)
    low, high = np.percentile(away + seeds, PERCENT) * _stretch(freedom)

    if exchanged is None:
        exchanged = away  # a median of several seeds
    freedom = _inverse_freedom(spread, float(exchanged.var()) + extra, least)
    by_chance = np.abs(exchanged + seeds) * luck.scale(freedom)
    as_far = int((by_chance >= abs(difference) * (1 - _ROUNDING) - 1e-12).sum())
    p = (1 + as_far) / (1 + len(by_chance))
    return Difference(difference, difference + float(low), difference + float(high), p)


def _stretch(inverse_freedom: float) -> float:
    """Student's 97.5 % quantile over the normal one."""
    quantile = PERCENT[1] / 100
    if not inverse_freedom:
        return 1.0
    return float(special.stdtrit(1 / inverse_freedom, quantile) / special.ndtri(quantile))


def _inverse_freedom(spread: float, variance: float, least: int) -> float:
    """1/ν = Σ (part of the variance)² / (its degrees of freedom) / variance².

    By its derivation ν is no less than the least of the parts' own, but estimates may make it so.
    """
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
