"""A sweep from its file to its tables: trained, chosen on validation, read once on test."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from vmr import embeddings
from vmr.errors import UserError
from vmr.evaluation import table
from vmr.sweeps import folder
from vmr.sweeps.cohorts import cohorts
from vmr.sweeps.outcomes import Setting, chosen, outcome_of, reference, settings_of, value_of
from vmr.sweeps.places import Places
from vmr.sweeps.plots import save_plots
from vmr.sweeps.points import SweepPoint, load_sweep, resolved
from vmr.sweeps.runner import train_all
from vmr.sweeps.search import search
from vmr.sweeps.search_space import SearchSpace, choices_of
from vmr.sweeps.tables import SweepReport, as_text, write_tables
from vmr.training import scored_runs, scoring
from vmr.training.comparing import compare_scored
from vmr.training.inference import restore_run
from vmr.training.lock import locked
from vmr.training.reading import sound_dataset_of, view_of
from vmr.training.scored_runs import Scored
from vmr.training.together import Run


def listed(path: pathlib.Path, config: ml_collections.ConfigDict, together: int) -> str:
    """The points of a sweep, checked, a line each, and how many programs would train them.

    Raises:
      UserError: the file is none of a sweep, or a point cannot work.
    """
    points = resolved(load_sweep(path).points, config)
    runs = [Run(point.config, pathlib.Path(point.name)) for point in points]
    sizes = [sum(map(len, grid)) for grid in cohorts(runs, together)]
    shared = [size for size in sizes if size > 1]
    told = f"{len(points)} points: {sum(shared)} in {len(shared)} programs"
    return "\n".join([*(point.name for point in points), f"{told}, {sizes.count(1)} by themselves"])


def run_sweep(
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    places: Places,
    choose_per: str | None = None,
) -> str:
    """Trains all points to their ends, chooses by validation, evaluates the chosen on test.

    Writes `sweep.json`, `sweep.csv`, `sweep.md` and plots; runs lie in `points/`. Called again, it
    goes on: finished points are left as they are, failed ones are tried again.

    Args:
      path: of the sweep file.
      config: that each point changes.
      workdir: the sweep's folder.
      places: where the points are trained.
      choose_per: a field: one setting is chosen for each of its values; None chooses one of all.

    Returns:
      What to tell of it.

    Raises:
      UserError: a point, the data, the folder or `choose_per` is wrong; before any training.
    """
    points = resolved(load_sweep(path).points, config)
    _require_swept({field for point in points for field in point.changes}, choose_per)
    with _claimed(workdir, points[0].config, config):
        train_all([folder.run_of(point, workdir) for point in points], places, workdir)
        return _reported(points, config, workdir, choose_per, path.stem)


def run_search(
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    places: Places,
    trials: int,
    choose_per: str | None = None,
) -> str:
    """As `run_sweep`, but Optuna proposes the points: see `vmr.sweeps.search`.

    Args:
      path: of the sweep file: its `get_search()` gives the ranges, else the values that each field
        has in its points are choices; the seeds are those of its points.
      config: that each point changes.
      workdir: the search's folder.
      places: where the points are trained; as many trials as processes are proposed at a time.
      trials: in all.
      choose_per: as of `run_sweep`.

    Raises:
      UserError: as `run_sweep`; Optuna is not installed; or the folder holds another search.
    """
    sweep = load_sweep(path)
    points = resolved(sweep.points, config)
    seeds = tuple(dict.fromkeys(point.config.seed for point in points))
    space = SearchSpace(config, sweep.ranges or choices_of(sweep.points), seeds)
    space.require_sound()
    names = [(fields,) if isinstance(fields, str) else fields for fields in space.ranges]
    _require_swept({field for fields in names for field in fields}, choose_per)

    def train(runs: Sequence[Run]) -> None:
        train_all(runs, places, workdir)

    with _claimed(workdir, points[0].config, config):
        tried = search(space, trials, workdir, train, at_once=places.parallel)
        return _reported(tried, config, workdir, choose_per, path.stem)


@contextlib.contextmanager
def _claimed(
    workdir: pathlib.Path, first: ml_collections.ConfigDict, config: ml_collections.ConfigDict
) -> Iterator[None]:
    """Makes the folder the sweep's and keeps other sweeps out.

    Raises before that where the first point cannot be trained.
    """
    view_of(first, sound_dataset_of(first))
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        folder.claim(workdir, config)
        yield


def _reported(
    points: Sequence[SweepPoint],
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    choose_per: str | None,
    title: str,
) -> str:
    """Writes tables and plots, and says what to tell of them."""
    report = report_of(points, config, workdir, choose_per, title)
    written = [*write_tables(workdir, report), *save_plots(workdir, report.settings, report.metric)]
    return "\n\n".join(filter(None, [as_text(report), *_told(report), _paths(written)]))


def report_of(
    points: Sequence[SweepPoint],
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    choose_per: str | None,
    title: str,
) -> SweepReport:
    """What the points have reached; the test split is read for what validation alone has named.

    Those are the chosen settings and, where only one was chosen, its `reference`.
    """
    outcomes = [outcome_of(point, folder.run_of(point, workdir)) for point in points]
    settings = settings_of(outcomes)
    metric = points[0].config.selection
    best = chosen(settings, metric, choose_per)
    against = reference(settings, best[0], metric, config) if len(best) == 1 else None
    test: dict[str, list[dict[str, Any]]] = {}
    systems: dict[str, list[Scored]] = {}
    for setting in [*([against] if against else []), *best]:
        read = [_read_test(outcome.run) for outcome in setting.outcomes]
        test[setting.name] = [results for results, _ in read]
        # The reference may have the chosen one's value of the field that is chosen per.
        title = setting.name if setting is against else _title(setting, choose_per)
        systems[title] = [scored for _, scored in read]
    found, no_verdict = None, ""
    try:
        if len(systems) > 1:
            found = compare_scored(systems, "test", against="first")
    except UserError as mistake:  # as one track alone: the tables stand all the same
        no_verdict = f"No verdict on test: {mistake}"
    return SweepReport(
        title=title,
        settings=settings,
        metric=metric,
        chosen=best,
        per=choose_per,
        test={setting.name: test[setting.name] for setting in best},
        comparison=found,
        verdicts=table.render_comparison(found, "markdown") if found else no_verdict,
    )


def _read_test(run: Run) -> tuple[dict[str, Any], Scored]:
    """A run on test: its results, which are kept in its folder, and its values for a comparison.

    Taken anew each time: results in a folder may be of an earlier checkpoint.
    """
    trained = restore_run(run.workdir)
    embedded = embeddings.collect(trained.embed("test"), "test", trained.meta())
    results = scoring.score(embedded, trained.step)
    scoring.write_results(run.workdir / "results" / "test.json", results)
    return results, scored_runs.scored(run.workdir, embedded)


def _title(setting: Setting, per: str | None) -> str:
    return str(value_of(setting, per)) if per else setting.name


def _require_swept(fields: set[str], per: str | None) -> None:
    swept = sorted(fields - {"seed"})
    if per is not None and per not in swept:
        raise UserError(
            f"--choose_per={per}: the sweep does not change it, expected one of {', '.join(swept)}"
        )


def _told(report: SweepReport) -> list[str]:
    """The verdicts on test, and what failed."""
    told = [table.render_comparison(report.comparison)] if report.comparison else [report.verdicts]
    outcomes = [outcome for setting in report.settings for outcome in setting.outcomes]
    failed = [one for one in outcomes if one.status == "failed"]
    told += [f"failed: {one.point.name}: {one.failure}" for one in failed]
    if not report.chosen:
        told.append("no setting has come to its end with all its seeds: none is chosen")
    return told


def _paths(written: Sequence[pathlib.Path]) -> str:
    return "written to " + ", ".join(map(str, written))
