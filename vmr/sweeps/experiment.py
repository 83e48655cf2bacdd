"""Sweep from its file to its tables: training, choice on validation, one look at test."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from vmr import embeddings
from vmr.disk import locked
from vmr.errors import UserError
from vmr.evaluation import table
from vmr.runs import compare, ensemble_folder, evaluate
from vmr.runs.compare import Scored, compare_scored
from vmr.runs.ensemble import open_ensemble
from vmr.runs.model import model_of_run
from vmr.runs.restore import restore_run
from vmr.sweeps.jobs import claim, jobs_of, name_of, run_of
from vmr.sweeps.launch import Launcher, train_all
from vmr.sweeps.plots import save_plots
from vmr.sweeps.points import SweepPoint, checked_points, load_sweep
from vmr.sweeps.report import EnsembleResult, Report, as_text, write_tables
from vmr.sweeps.results import Results, row_of
from vmr.sweeps.search import SearchSpace, choices_of, search
from vmr.training.grid import Run
from vmr.training.reading import batch_spec_of, sound_dataset_of
from vmr.training.run_dir import latest_step, require_same_data
from vmr.training.teacher import teacher_of


def listed(path: pathlib.Path, config: ml_collections.ConfigDict, runs_per_job: int) -> str:
    """Lists the checked points of a sweep, a line each, and counts the programs that train them.

    Raises:
      UserError: the file is no sweep, or a point cannot be trained.
    """
    points = checked_points(load_sweep(path).points, config)
    runs = [Run(point.config, pathlib.Path(point.name)) for point in points]
    sizes = [len(job.runs) for job in jobs_of(runs, runs_per_job)]
    shared = [size for size in sizes if size > 1]
    counts = f"{len(points)} points: {sum(shared)} in {len(shared)} programs"
    names = [point.name for point in points]
    return "\n".join([*names, f"{counts}, {sizes.count(1)} by themselves"])


def run_sweep(
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    launcher: Launcher,
    runs_per_job: int = 16,
    choose_per: str | None = None,
    ensemble: bool = False,
) -> str:
    """Trains all points to their ends, chooses by validation, evaluates the chosen on test.

    Writes `sweep.json`, `sweep.csv`, `sweep.md` and plots; runs lie in `points/`. Called again, it
    goes on: finished points stay as they are, failed ones are tried again.

    Args:
      path: path of the sweep file.
      config: config that each point changes.
      workdir: the sweep's folder.
      launcher: launcher of the jobs that train the points.
      runs_per_job: most runs in a job.
      choose_per: field for each of whose values one setting is chosen; None chooses one of all.
      ensemble: True to choose an ensemble among the finished runs too, by validation, and to write
        it to the folder `ensemble`.

    Returns:
      Text for the terminal: the table, the verdict, failures and the files written.

    Raises:
      UserError: a point, the data, the folder or `choose_per` is wrong; before any training.
    """
    points = checked_points(load_sweep(path).points, config)
    _require_swept({field for point in points for field in point.changes}, choose_per)
    with _claimed(workdir, points[0], config):
        train_all([run_of(point, workdir) for point in points], launcher, runs_per_job)
        return _write_report(points, config, workdir, choose_per, path.stem, ensemble)


def run_search(
    path: pathlib.Path,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    launcher: Launcher,
    trials: int,
    runs_per_job: int = 16,
    choose_per: str | None = None,
    ensemble: bool = False,
) -> str:
    """Runs a sweep, see `run_sweep`, whose points Optuna proposes, see `vmr.sweeps.search`.

    Args:
      path: path of the sweep file: its `get_search()` gives the ranges, else the values that each
        field has in its points are choices; the seeds are those of its points.
      config: config that each point changes.
      workdir: the search's folder.
      launcher: launcher of the jobs; `launcher.parallel` trials are proposed at a time.
      trials: number of trials, those of earlier calls included.
      runs_per_job: most runs in a job.
      choose_per: as in `run_sweep`.
      ensemble: as in `run_sweep`.

    Raises:
      UserError: as in `run_sweep`; Optuna is not installed; or the folder holds another search.
    """
    sweep = load_sweep(path)
    points = checked_points(sweep.points, config)
    seeds = tuple(dict.fromkeys(point.config.seed for point in points))
    space = SearchSpace(config, sweep.ranges or choices_of(sweep.points), seeds)
    space.require_sound()
    names = [(fields,) if isinstance(fields, str) else fields for fields in space.ranges]
    _require_swept({field for fields in names for field in fields}, choose_per)

    def train(runs: Sequence[Run]) -> None:
        train_all(runs, launcher, runs_per_job)

    with _claimed(workdir, points[0], config):
        trained = search(space, trials, workdir, train, at_once=launcher.parallel)
        return _write_report(trained, config, workdir, choose_per, path.stem, ensemble)


def _require_swept(fields: set[str], per: str | None) -> None:
    swept = sorted(fields - {"seed"})
    if per is not None and per not in swept:
        raise UserError(
            f"--choose_per={per}: the sweep does not change it, expected one of {', '.join(swept)}"
        )


@contextlib.contextmanager
def _claimed(
    workdir: pathlib.Path, first: SweepPoint, config: ml_collections.ConfigDict
) -> Iterator[None]:
    """Claims the folder for the sweep and keeps other sweeps out.

    Raises:
      UserError: the first point cannot be trained, and no folder is made; or the folder holds
        something else or runs on other data, or another sweep works there.
    """
    # Data that no point can read would otherwise fail each of them by itself, in its own process.
    dataset = sound_dataset_of(first.config)
    batch_spec_of(first.config, dataset)
    teacher_of(first.config, dataset)
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        claim(workdir, config)
        # The path of the data may have changed, on another host say, and their content may not.
        trained = run_of(first, workdir).workdir
        if latest_step(trained):
            require_same_data(trained, dataset.fingerprint)
        yield


def _write_report(
    points: Sequence[SweepPoint],
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    choose_per: str | None,
    title: str,
    ensemble: bool,
) -> str:
    """Writes tables and plots; returns the text for the terminal."""
    rows = tuple(row_of(point, run_of(point, workdir)) for point in points)
    results = Results(rows, points[0].config.selection)
    report = report_of(results, config, choose_per, title)
    if ensemble:
        report = dataclasses.replace(report, ensemble=_ensembled(results, workdir))
    written = [*write_tables(workdir, report), *save_plots(workdir, results)]
    comparison = report.comparison
    verdicts = table.render_comparison(comparison) if comparison else report.verdicts
    blocks = [as_text(report), verdicts]
    blocks += [f"failed: {row.point.name}: {row.failure}" for row in results.failed]
    if not report.chosen:
        blocks.append("no setting has come to its end with all its seeds: none is chosen")
    blocks.append("written to " + ", ".join(map(str, written)))
    return "\n\n".join(filter(None, blocks))


def report_of(
    results: Results, config: ml_collections.ConfigDict, choose_per: str | None, title: str
) -> Report:
    """Chooses settings by validation alone, then evaluates them on the test split, if there is one.

    Where only one is chosen, its reference is evaluated as well. No other setting is.
    """
    chosen = results.choose(choose_per)
    reference = results.reference(chosen[0], config) if len(chosen) == 1 else None
    test: dict[str, list[dict[str, Any]]] = {}
    systems: dict[str, list[Scored]] = {}
    for setting in [*([reference] if reference else []), *chosen]:
        try:
            evaluated = [_evaluated_on_test(row.run) for row in setting.rows]
        except UserError as mistake:  # no test split, say: the tables are written all the same
            return Report(
                title, results, chosen, choose_per, verdicts=f"No results on test: {mistake}"
            )
        test[setting.name] = [metrics for metrics, _ in evaluated]
        # The reference may have the chosen one's value of the field that is chosen per.
        is_named = choose_per is None or setting is reference
        name = setting.name if is_named else str(setting.value(str(choose_per)))
        systems[name] = [scored for _, scored in evaluated]
    comparison, verdicts = _compared(systems)
    return Report(
        title=title,
        results=results,
        chosen=chosen,
        per=choose_per,
        test={setting.name: test[setting.name] for setting in chosen},
        comparison=comparison,
        verdicts=verdicts,
    )


def _ensembled(results: Results, workdir: pathlib.Path) -> EnsembleResult:
    """Ensemble chosen by validation among the finished runs, written and evaluated on test."""
    # Settings that differ in what a run does not read give the same model: of these the first.
    runs: dict[str, Run] = {}
    try:
        for row in results.by_setting():
            if row.status == "finished":
                runs.setdefault(model_of_run(row.run.workdir).fingerprint, row.run)
        if len(runs) < 2:
            raise UserError("expected at least two finished runs that differ")
        data_dir = next(iter(runs.values())).config.dataset.data_dir
        opened = open_ensemble([run.workdir for run in runs.values()], data_dir, weights="chosen")
        chosen = opened.chosen
        assert chosen is not None
        # By its point: the folder's own name is that of the seed alone.
        members = tuple(
            dataclasses.replace(member, name=name_of(runs[member.model.fingerprint]))
            for member in opened.members
        )
        opened = dataclasses.replace(opened, members=members)
        ensemble_folder.write(opened.model, workdir / "ensemble", chosen)
    except UserError as mistake:  # the tables are written all the same
        return EnsembleResult(failure=str(mistake))
    coefficients = {member.name: member.coefficient for member in members}
    try:
        embedded = embeddings.collect(opened.embed("test"), "test", opened.meta())
    except UserError:  # `report_of` has said why
        return EnsembleResult(coefficients, *chosen)
    return EnsembleResult(coefficients, *chosen, evaluate.score(embedded, None))


def _compared(systems: dict[str, list[Scored]]) -> tuple[dict[str, Any] | None, str]:
    """Comparison on test with the first system, and its Markdown, or why there is none."""
    if not systems:
        return None, ""
    if len(systems) == 1:
        return None, "No verdict on test: no other setting has come to its end with all its seeds."
    try:
        comparison = compare_scored(systems, "test", against="first")
    except UserError as mistake:  # a single track, say: the tables are written all the same
        return None, f"No verdict on test: {mistake}"
    return comparison, table.render_comparison(comparison, "markdown")


def _evaluated_on_test(run: Run) -> tuple[dict[str, Any], Scored]:
    """Test metrics of a run, written into its folder too, and its ranks for a comparison."""
    # Never taken from the folder: results there may be those of an earlier checkpoint.
    # The data where they lie for this call: the run may have been trained on another host.
    trained = restore_run(run.workdir, run.config.dataset.data_dir)
    embedded = embeddings.collect(trained.embed("test"), "test", trained.meta())
    results = evaluate.score(embedded, trained.step)
    evaluate.write_results(run.workdir / "results" / "test.json", results)
    return results, compare.scored(run.workdir, embedded)
