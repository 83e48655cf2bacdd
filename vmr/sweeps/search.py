"""Search with Optuna: each trial is proposed from the results of the earlier ones."""

import contextlib
import json
import pathlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import ml_collections
import numpy as np

from vmr.errors import UserError
from vmr.sweeps.jobs import grouped, run_of
from vmr.sweeps.points import SweepPoint, checked_points
from vmr.sweeps.results import Setting, row_of
from vmr.sweeps.space import (
    Choice,
    Fields,
    LogUniform,
    Point,
    Range,
    Space,
    choice,
    product,
    rounded,
    sweep,
)
from vmr.training.grid import Run

_SETTINGS = 32  # random settings in which a value is tried that the base config refuses

Train = Callable[[Sequence[Run]], None]


@dataclass(frozen=True)
class SearchSpace:
    """Settings that a search chooses from.

    Attributes:
      config: config that a setting changes, locked.
      ranges: range of each field; fields of a tuple take the same value.
      seeds: seeds of the runs of each setting.
    """

    config: ml_collections.ConfigDict
    ranges: Mapping[Fields, Range]
    seeds: tuple[int, ...]

    def require_sound(self) -> None:
        """Tries the ends of each range, and each choice, before anything starts.

        Raises:
          UserError: there are no ranges or no seeds; or the base config refuses a value, and so do
            settings that are drawn at random, which may hold what the value needs.
        """
        if not self.ranges or not self.seeds:
            raise UserError("the search has no ranges or no seeds: expected at least one of each")
        ends = {fields: _ends(drawn) for fields, drawn in self.ranges.items()}
        generator = random.Random(0)
        settings = [
            {fields: generator.choice(values) for fields, values in ends.items()}
            for _ in range(_SETTINGS)
        ]
        # Raises where two ranges name one field.
        self._joined({fields: values[0] for fields, values in ends.items()})
        for fields, values in ends.items():
            for value in values:
                mistake = self._mistake({fields: value})
                if mistake and all(self._mistake({**drawn, fields: value}) for drawn in settings):
                    raise mistake

    def distributions(self) -> dict[str, Any]:
        """Optuna's distribution of each range, by its name."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        # Choices as text: Optuna's database holds no tuples.
        return {
            _name(fields): CategoricalDistribution(list(map(str, drawn.values)))
            if isinstance(drawn, Choice)
            else FloatDistribution(drawn.low, drawn.high, log=isinstance(drawn, LogUniform))
            for fields, drawn in self.ranges.items()
        }

    def points(self, parameters: Mapping[str, Any]) -> list[SweepPoint]:
        """Points of a trial, one a seed; UserError where its values make no sound config."""
        values = {
            fields: _value(drawn, parameters[_name(fields)])
            for fields, drawn in self.ranges.items()
        }
        return checked_points(self._joined(values), self.config)

    def description(self) -> str:
        """Ranges and seeds as JSON; a search may go on from another of an equal description."""
        ranges = {
            _name(fields): {type(drawn).__name__: asdict(drawn)}
            for fields, drawn in self.ranges.items()
        }
        return json.dumps({"ranges": ranges, "seeds": self.seeds}, sort_keys=True)

    def _joined(self, values: Mapping[Fields, Any]) -> Space:
        fields = [sweep(fields, [value]) for fields, value in values.items()]
        return product(*fields, sweep("seed", self.seeds))

    def _mistake(self, values: Mapping[Fields, Any]) -> UserError | None:
        try:
            checked_points(self._joined(values), self.config)
        except UserError as mistake:
            return mistake
        return None


def choices_of(points: Sequence[Point]) -> dict[Fields, Range]:
    """Choices of a search: the values that each field but the seed has in a sweep.

    Fields that are equal in all points stay so. Others are chosen one by one: a search over a sweep
    without ranges also tries combinations that the sweep leaves out.
    """
    fields = dict.fromkeys(field for point in points for field in point if field != "seed")
    # A point may leave a field as it is, which is not the same as setting it to None.
    columns = {
        field: tuple((field in point, point.get(field)) for point in points) for field in fields
    }
    return {
        tuple(tied): choice(dict.fromkeys(value for is_set, value in columns[tied[0]] if is_set))
        for tied in grouped(fields, columns.__getitem__)
    }


@dataclass(frozen=True)
class _Trial:
    """Setting that is being tried.

    Attributes:
      number: number of the trial, from 0.
      points: points of the setting, one a seed; none where its config is not sound.
      mistake: mistake in its config; empty if it is sound.
    """

    number: int
    points: Sequence[SweepPoint]
    mistake: str


def search(
    space: SearchSpace,
    trials: int,
    workdir: pathlib.Path,
    train: Train,
    at_once: int = 1,
    seed: int = 0,
) -> list[SweepPoint]:
    """Searches for the setting with the highest mean of `config.selection` over the seeds.

    The trials are kept in `workdir/search.db` (SQLite), their runs in `workdir/points` as those of
    any sweep. The same call again goes on: trials that have finished or failed are not repeated,
    those in between keep what they try and go on from their checkpoints. Optuna's TPE sampler
    (Bergstra et al., "Algorithms for Hyper-Parameter Optimization", 2011) is seeded anew for each
    batch of trials, by its number, so that what it proposes follows from the seed and the earlier
    trials alone, wherever the search was stopped; where runs are the same to the bit, so is the
    search.

    Args:
      space: space to search.
      trials: number of trials, those of earlier calls included.
      workdir: the search's folder; one call at a time.
      train: function that trains runs, or goes on with them, and notes failures in their folders.
      at_once: trials that are proposed and trained at a time: none learns from the others.
      seed: seed of the proposals.

    Returns:
      Points of all trials; a setting that was tried twice counts once.

    Raises:
      UserError: Optuna is not installed; a range has a value that its field cannot have; the folder
        holds a search over other ranges or seeds. Nothing is started.
    """
    space.require_sound()
    with _opened(workdir / "search.db", space.description()) as study:
        while batch := _next_batch(study, space, trials, at_once, seed):
            runs = [run_of(point, workdir) for trial in batch for point in trial.points]
            train(list({run.workdir: run for run in runs}.values()))
            for trial in batch:
                print(f"trial {trial.number + 1}/{trials}: {_end(study, trial, workdir)}")
        ended = [_trial_of(frozen, space) for frozen in study.get_trials(deepcopy=False)]
    return list({point.name: point for trial in ended for point in trial.points}.values())


def _next_batch(
    study: Any, space: SearchSpace, trials: int, at_once: int, seed: int
) -> list[_Trial]:
    """Trials that an earlier call has begun, or new ones; none when all have ended."""
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    # A batch ends at a multiple of `at_once`: one that was cut short is filled up, not begun anew.
    while True:
        count = len(study.get_trials(deepcopy=False))
        begun = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if count >= trials or (begun and count % at_once == 0):
            break
        entropy = np.random.SeedSequence((seed, count))
        study.sampler = TPESampler(seed=int(entropy.generate_state(1)[0]))
        study.ask(space.distributions())
    return [_trial_of(frozen, space) for frozen in begun]


def _trial_of(frozen: Any, space: SearchSpace) -> _Trial:
    """Points of a trial that Optuna holds."""
    if len(frozen.params) < len(space.ranges):
        return _Trial(frozen.number, (), "it was stopped before all of it was proposed")
    try:
        return _Trial(frozen.number, space.points(frozen.params), "")
    except UserError as mistake:
        return _Trial(frozen.number, (), str(mistake))


def _end(study: Any, trial: _Trial, workdir: pathlib.Path) -> str:
    """Ends the trial in Optuna's study with its mean or as failed; returns the same in words."""
    from optuna.trial import TrialState

    rows = tuple(row_of(point, run_of(point, workdir)) for point in trial.points)
    setting = Setting(rows[0].point.setting, rows) if rows else None
    if setting is None or not setting.finished:
        study.tell(trial.number, state=TrialState.FAIL)
        failures = [trial.mistake, *(row.failure for row in rows)]
        return f"failed: {next(filter(None, failures), 'its runs did not come to their ends')}"
    metric = trial.points[0].config.selection
    mean = setting.mean(metric)
    study.tell(trial.number, mean)
    best = study.best_trial
    return f"{setting.name}: {metric} {mean:.4g}, best {best.value:.4g} of trial {best.number + 1}"


@contextlib.contextmanager
def _opened(path: pathlib.Path, description: str) -> Iterator[Any]:
    """Opens the study in a database, made if missing; UserError if it is of another space."""
    try:
        import optuna
    except ImportError:
        raise UserError("a search needs the extra: pip install -e '.[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.absolute()}")
    except Exception as error:  # SQLAlchemy, Alembic and Optuna have exceptions of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as the database of a search: {reason}") from None
    try:
        # Loaded whatever it holds; its description then says whether this search may go on in it.
        study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
        earlier = study.user_attrs.get("space", description)
        if earlier != description:
            raise UserError(
                f"{path} holds a search over other ranges or seeds: {earlier} there, "
                f"{description} here"
            )
        study.set_user_attr("space", description)
        yield study
    finally:
        # SQLAlchemy would otherwise keep the file open until garbage collection.
        storage.remove_session()
        storage.engine.dispose()


def _name(fields: Fields) -> str:
    return fields if isinstance(fields, str) else ",".join(fields)


def _ends(drawn: Range) -> tuple[Any, ...]:
    return drawn.values if isinstance(drawn, Choice) else (drawn.low, drawn.high)


def _value(drawn: Range, suggested: Any) -> Any:
    if isinstance(drawn, Choice):
        return drawn.values[list(map(str, drawn.values)).index(suggested)]
    return rounded(suggested, drawn.low, drawn.high)
