"""Recall against the number of training pairs: the points measured, a fitted law, a forecast.

The law is a straight line between the log-odds of the recall and the logarithm of the number of
pairs N, ``ln(R / (1 − R)) = a + b·ln N``: two parameters, and no recall beyond 0 or 100 %. It is
ours, chosen for that; nothing says that it holds beyond the points. How far it can be trusted is
told by the largest point as the others foretell it.
"""

import dataclasses
import functools
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

from vmr import tables
from vmr.disk import write_bytes, write_text
from vmr.errors import UserError
from vmr.evaluation import bootstrap
from vmr.evaluation.metrics import DIRECTIONS, RECALLS
from vmr.runs.compare import Scored, Systems, require_same_queries, score_run
from vmr.training.reading import dataset_of
from vmr.training.run_dir import saved_config
from vmr.training.trained import is_model

_LEAST = 3  # points of a law: two fit any line
_MARGIN = 1e-4  # of a recall from 0 and 1, whose log-odds are infinite
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

Shares = np.ndarray  # (P, B) recall of P points in B resamples, of which the first is the data


@dataclasses.dataclass(frozen=True)
class Curve:
    """Recall of one series of runs in one direction, by the number of training pairs.

    Attributes:
      pairs: (P,) distinct numbers of training pairs, ascending.
      seeds: (P,) runs behind each point.
      shares: (P, 1 + B) mean recall over the runs, from 0 to 1: measured, and in B resamples of
        tracks and of runs.
    """

    pairs: np.ndarray
    seeds: np.ndarray
    shares: Shares

    @functools.cached_property
    def law(self) -> np.ndarray | None:
        """Intercept and slope of each resample, (2, 1 + B); None for fewer than three points."""
        return fit(self.pairs, self.shares) if len(self.pairs) >= _LEAST else None

    def foretold(self, pairs: int) -> np.ndarray | None:
        """Recall (1 + B,) at a number of pairs, by the law."""
        return None if self.law is None else at(self.law, pairs)

    def largest_foretold(self) -> np.ndarray | None:
        """Recall (1 + B,) at the largest point by the law of the others; None for too few."""
        if len(self.pairs) <= _LEAST:
            return None
        return at(fit(self.pairs[:-1], self.shares[:-1]), self.pairs[-1])


def fit(pairs: np.ndarray, shares: Shares) -> np.ndarray:
    """Law of least squares in log-odds: (P,), (P, B) -> intercepts and slopes (2, B)."""
    odds = special.logit(np.clip(shares, _MARGIN, 1 - _MARGIN))
    slope, intercept = np.polyfit(np.log(pairs), odds, 1)
    return np.stack([intercept, slope])


def at(law: np.ndarray, pairs: Any) -> np.ndarray:
    """Recall from 0 to 1 that laws (2, B) foretell at numbers of pairs, broadcast with (B,)."""
    return special.expit(law[0] + law[1] * np.log(pairs))


def curves_of(
    systems: Systems,
    split: str,
    metric: str = "R@10",
    *,
    samples: int = 1000,
    seed: int = 0,
    data_dir: str | None = None,
) -> dict[str, dict[str, Curve]]:
    """Scores runs on one split: name of a series -> direction -> curve.

    Args:
      systems: series by name -> folders of runs, of any numbers of training pairs and any seeds.
      split: split whose queries all runs share.
      metric: a recall, `R@10`.
      samples: number of resamples, B.
      seed: seed of the resamples.
      data_dir: folder of the dataset; None if it is where each run was trained.

    Raises:
      UserError: the metric is no recall, a path is no run or is twice in a series, or runs are
        over different queries.
    """
    if metric not in RECALLS:
        raise UserError(f"--metric={metric}: expected a recall, {', '.join(RECALLS)}")
    for name, seeds in systems.items():
        _require_distinct(name, seeds)
    paths = [path for seeds in systems.values() for path in seeds]
    pairs = {path: _training_pairs(path, data_dir) for path in paths}
    scored = {path: score_run(path, split, data_dir) for path in pairs}
    first, *others = scored.values()
    for other in others:
        require_same_queries(first, other)
    drawn = {of: _drawn(list(scored.values()), of, metric, samples, seed) for of in DIRECTIONS}
    column = {path: n for n, path in enumerate(pairs)}
    return {
        name: {
            of: _curve([(pairs[path], column[path]) for path in paths], drawn[of], seed)
            for of in DIRECTIONS
        }
        for name, paths in systems.items()
    }


def _require_distinct(name: str, paths: Sequence[pathlib.Path]) -> None:
    """Raises UserError for a run twice in a series, which would pass for two seeds."""
    seen = set()
    for path in paths:
        if path.resolve() in seen:
            raise UserError(f"--runs: {path} is there twice in {name}, expected each run once")
        seen.add(path.resolve())


def _training_pairs(path: pathlib.Path, data_dir: str | None) -> int:
    if not path.is_dir() or is_model(path):
        raise UserError(f"{path} is no run's folder, which tells the number of training pairs")
    return dataset_of(saved_config(path), data_dir).examples("train")


def _drawn(
    runs: Sequence[Scored], direction: str, metric: str, samples: int, seed: int
) -> np.ndarray:
    """Recall (1 + B, R) of each run, from 0 to 1: measured, and with tracks drawn at random."""
    rows = np.stack([run.values[direction][metric] for run in runs])
    asked = runs[0].videos[:, 1] if direction == "v2m" else runs[0].asked
    _, cluster = np.unique(asked, return_inverse=True)
    drawn = bootstrap.resampled({metric: rows}, cluster, samples=samples, seed=seed)[metric]
    return np.concatenate([rows.mean(axis=1)[None], drawn]) / 100


def _curve(runs: Sequence[tuple[int, int]], drawn: np.ndarray, seed: int) -> Curve:
    """Curve of runs, each with its number of training pairs and its column of `drawn`."""
    generator = np.random.default_rng(seed)
    pairs = np.unique([count for count, _ in runs])
    shares, seeds = [], []
    for count in pairs:
        columns = np.array([column for other, column in runs if other == count])
        # Runs are drawn as well as tracks: both scatter.
        picked = columns[generator.integers(len(columns), size=(len(drawn), len(columns)))]
        picked[0] = columns
        shares.append(np.take_along_axis(drawn, picked, axis=1).mean(axis=1))
        seeds.append(len(columns))
    return Curve(pairs, np.array(seeds), np.stack(shares))


def as_table(curves: Mapping[str, Mapping[str, Curve]], metric: str, form: str = "text") -> str:
    """Table of the points, `text` or `markdown`: runs and recall in percent with its interval."""
    rows = [["", "pairs", "runs", *(f"{of} {metric}" for of in DIRECTIONS)]]
    for name, both in curves.items():
        one = next(iter(both.values()))
        for n, pairs in enumerate(one.pairs):
            cells = [in_percent(curve.shares[n]) for curve in both.values()]
            rows.append([name, f"{pairs:,}", str(one.seeds[n]), *cells])
    return tables.FORMS[form](rows)


def in_words(curves: Mapping[str, Mapping[str, Curve]], metric: str, pairs: int) -> str:
    """Lines on the law of each series and direction, its check, and its forecast."""
    lines = []
    for name, both in curves.items():
        for direction, curve in both.items():
            heading = f"{name}, {direction} {metric}: "
            if curve.law is None:
                lines.append(f"{heading}no law of fewer than {_LEAST} numbers of pairs")
                continue
            low, high = np.percentile(curve.law[1, 1:], bootstrap.PERCENT)
            line = f"{heading}log-odds rise by {curve.law[1, 0]:.2f} [{low:.2f}, {high:.2f}] "
            line += f"for each e-fold of pairs; {pairs:,} pairs would give "
            line += in_percent(at(curve.law, pairs))
            if (check := curve.largest_foretold()) is not None:
                line += f"; the points below {curve.pairs[-1]:,} foretell {in_percent(check)} "
                line += f"there, measured {100 * curve.shares[-1, 0]:.1f}"
            lines.append(line)
    return "\n".join(lines)


def in_percent(shares: np.ndarray) -> str:
    """Value and 95 % interval of (1 + B,) shares: `34.0 [31.5, 36.4]`."""
    low, high = np.percentile(100 * shares[1:], bootstrap.PERCENT)
    return f"{100 * shares[0]:.1f} [{low:.1f}, {high:.1f}]"


def draw(curves: Mapping[str, Mapping[str, Curve]], metric: str, pairs: int) -> Figure:
    """Plot of both directions: points with intervals, laws with bands up to a number of pairs."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    panels = figure.subplots(1, len(DIRECTIONS), sharey=True)
    for panel, direction in zip(panels, DIRECTIONS, strict=True):
        for colour, (name, both) in zip(_colours(len(curves)), curves.items(), strict=True):
            _draw(panel, both[direction], name, colour, pairs)
        panel.set_xscale("log")
        panel.set_title(direction, fontsize="medium", loc="left")
        panel.set_xlabel("training pairs")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"{metric} (%)")
    panels[0].legend(frameon=False)
    note = "bars and bands: 95 %, tracks and runs drawn at random; dashed: beyond the points"
    figure.supxlabel(note, fontsize="x-small", color="0.35")
    return figure


def _colours(count: int) -> list[Any]:
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    return list(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def _draw(panel: Axes, curve: Curve, name: str, colour: Any, pairs: int) -> None:
    measured = 100 * curve.shares[:, 0]
    ends = np.percentile(100 * curve.shares[:, 1:], bootstrap.PERCENT, axis=1)
    # A percentile interval need not hold the measured value where runs are few.
    bars = np.maximum(np.stack([measured - ends[0], ends[1] - measured]), 0)
    panel.errorbar(curve.pairs, measured, bars, fmt="o", color=colour, capsize=2.5, label=name)
    if curve.law is None:
        return
    most = max(pairs, int(curve.pairs[-1]))
    within = np.geomspace(curve.pairs[0], curve.pairs[-1], 50)
    beyond = np.geomspace(curve.pairs[-1], most, 50)
    for where, style in ((within, "-"), (beyond, "--")):
        foretold = 100 * at(curve.law, where[:, None])
        low, high = np.percentile(foretold[:, 1:], bootstrap.PERCENT, axis=1)
        panel.plot(where, foretold[:, 0], style, color=colour, linewidth=1.2)
        panel.fill_between(where, low, high, color=colour, alpha=0.12, linewidth=0)


def write(
    path: pathlib.Path, curves: Mapping[str, Mapping[str, Curve]], metric: str, pairs: int
) -> None:
    """Writes the plot, where the name ends in .png, or else the table and the words in Markdown.

    Raises:
      UserError: the file cannot be written; an earlier one is whole.
    """
    if path.suffix == ".png":
        drawn = io.BytesIO()  # first to memory: a full disk leaves an earlier plot whole
        draw(curves, metric, pairs).savefig(drawn, format="png", dpi=150)
        write_bytes(path, drawn.getvalue())
    else:
        words = in_words(curves, metric, pairs).replace("\n", "\n\n")
        write_text(path, f"{as_table(curves, metric, 'markdown')}\n\n{words}\n")
