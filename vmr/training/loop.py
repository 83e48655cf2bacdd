"""The training loop: one program that trains a grid of runs; a run alone is the 1 × 1 grid."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from vmr import embeddings
from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset
from vmr.data.pipeline import train_batches
from vmr.errors import UserError
from vmr.training import build, profiling
from vmr.training import devices as on_devices
from vmr.training import grid as grids
from vmr.training import run_dir as run_folder
from vmr.training.config import require_sound
from vmr.training.embed import embed_batches
from vmr.training.evals import EVALS
from vmr.training.grid import Grid, Run
from vmr.training.log import state_norm
from vmr.training.open_run import OpenRun
from vmr.training.profiling import StepTrace
from vmr.training.progress import Progress, ending
from vmr.training.reading import (
    batch_spec_of,
    evaluation_batches,
    feature_widths,
    sound_dataset_of,
    standardization_of,
    step_inputs,
)
from vmr.training.signals import StopRequest, stop_requests
from vmr.training.state import TrainState

Batches = Sequence[Mapping[str, np.ndarray]]  # one a seed
Place = tuple[int, int]  # of a run in the grid: its seed's row, its column


def train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    devices: Sequence[jax.Device] | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Trains a run to its end, going on from its latest checkpoint if it has one.

    Args:
      config: fields as `vmr.training.base_config` explains them.
      workdir: the run's folder: config, environment, checkpoints, metrics.
      devices: those that share each batch; all local devices by default.
      profile: first and last step to trace into `workdir/profile`.

    Returns:
      The last state, on the host.

    Raises:
      UserError: a field, the data or the folder is wrong, another process trains there, or the
        loss or the state is not finite.
      KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
      SystemExit: SIGTERM came; the run is saved.
    """
    state, failures = _train([[Run(config, workdir)]], devices, profile)
    for failure in failures.values():
        raise UserError(failure)
    return grids.entry(state, (0, 0))


def train_grid(grid: Grid, devices: Sequence[jax.Device] | None = None) -> dict[pathlib.Path, str]:
    """Trains runs in one program, each in a folder of its own, as if it had been trained alone.

    Runs go on from their latest checkpoints. Those that end, early or with a loss or a state that
    is not finite, leave the rest to go on; when half of them have left, all are saved and this
    returns, so that the rest may be trained in a smaller program.

    Args:
      grid: S seeds, each with W runs that differ in weights and learning rate alone.
      devices: those that share each batch; all local devices by default.

    Returns:
      What stopped the runs that failed, by their folders.

    Raises:
      UserError: a field, the data or a folder is wrong, or another process trains in one, or the
        runs stand at different steps; before any training.
      KeyboardInterrupt: Ctrl-C was pressed; the runs are saved.
      SystemExit: SIGTERM came; the runs are saved.
    """
    return _train(grid, devices)[1]


def _train(
    grid: Grid,
    devices: Sequence[jax.Device] | None,
    profile: tuple[int, int] | None = None,
) -> tuple[TrainState, dict[pathlib.Path, str]]:
    """Opens the folders, trains, tells how it ended: the last state (S, W, ...) and failures."""
    devices = devices or jax.local_devices()
    configs = [run.config for row in grid for run in row]
    for config in configs:
        require_sound(config)
    on_devices.require_divisible(configs[0], devices)
    profiling.require_taken(profile, configs[0].steps)
    on_devices.keep_compiled_programs()
    dataset = sound_dataset_of(configs[0])
    spec = batch_spec_of(configs[0], dataset)
    with contextlib.ExitStack() as opened:
        for run in (run for row in grid for run in row):
            opened.enter_context(run_folder.claimed(run.workdir, run.config, dataset.description))
        runs = [[opened.enter_context(OpenRun(*run)) for run in row] for row in grid]
        state = _first_state(runs, dataset, spec)
        trace = StepTrace(grid[0][0].workdir / "profile", profile)
        with stop_requests() as stop:
            loop = _Loop(grid, runs, dataset, spec, devices, stop, trace)
            state = loop.train(state)
    print(loop.ending(), flush=True)
    stop.end()
    return state, {run.workdir: run.failure for run in loop.places.values() if run.failure}


def _first_state(
    runs: Sequence[Sequence[OpenRun]], dataset: Dataset, spec: BatchSpec
) -> TrainState:
    """The states that runs start or go on from, stacked; UserError if their steps differ."""

    @functools.cache  # one pass over the data serves all runs
    def measured() -> Mapping[str, Any]:
        print("standardising: one pass over the training split", flush=True)
        return standardization_of(dataset, spec)

    widths = feature_widths(dataset, spec)
    states = [[run.start(widths, measured) for run in row] for row in runs]
    steps = {
        int(state.step): run.workdir
        for row, states_of_row in zip(runs, states, strict=True)
        for run, state in zip(row, states_of_row, strict=True)
    }
    (step, one), *others = sorted(steps.items())
    if others:
        other_step, other = others[0]
        raise UserError(
            f"{one} goes on from step {step} and {other} from step {other_step}: one program takes "
            "the same step of all its runs"
        )
    if step:
        print(f"going on from step {step:,}", flush=True)
    return grids.stacked(states)


class _Due(NamedTuple):
    """Actions that follow a step."""

    logs: bool
    validates: bool
    saves: bool


class _Taken(NamedTuple):
    """A step whose numbers have not been looked at yet."""

    step: int
    scalars: Mapping[str, jax.Array]
    batches: Batches


@dataclasses.dataclass
class _Loop:
    """The loop over the steps of a grid, and what it needs at every one."""

    grid: Grid
    runs: Sequence[Sequence[OpenRun]]
    dataset: Dataset
    spec: BatchSpec
    devices: Sequence[jax.Device]
    stop: StopRequest
    trace: StepTrace

    def __post_init__(self) -> None:
        self.config = config = self.grid[0][0].config  # for what all runs share
        self.places: dict[Place, OpenRun] = {
            (row, column): run
            for row, of_row in enumerate(self.runs)
            for column, run in enumerate(of_row)
        }
        self.shape = len(self.runs), len(self.runs[0])
        at_once = grids.runs_at_once(self.devices)
        step_options = {"config": config, "device_count": len(self.devices), "at_once": at_once}
        self.steps = {
            logs: on_devices.pmapped_train_step(
                functools.partial(grids.grid_step, logs=logs, **step_options), self.devices
            )
            for logs in (False, True)
        }
        embed = functools.partial(
            grids.grid_embed, model=build.build_model(config), at_once=at_once
        )
        self.embed = on_devices.pmapped_embed_step(embed, self.devices)
        self.state_norms = jax.jit(jax.vmap(jax.vmap(state_norm)))
        self.best: TrainState | None = None  # (S, W, ...), each run's best since it was saved
        self.step = 0

    def train(self, state: TrainState) -> TrainState:
        """Takes the steps that are left, or as many as the runs go on for; returns the state."""
        state = on_devices.replicated(state, self.devices)
        settings = on_devices.replicated(grids.settings_of(self.grid), self.devices)
        self.step = first = int(jax.device_get(state.step)[0, 0])
        batches = self._batches(first)
        self.progress = Progress(
            first, self.config.steps, self.config.batch_size * len(self.places)
        )
        unchecked: _Taken | None = None

        while self._goes_on():
            of_step = next(batches)
            self.step += 1
            due = self._due()
            if self.step == first + 1:
                print(f"compiling the step for {on_devices.described(self.devices)}", flush=True)
            shards = on_devices.sharded(_by_seed(of_step, len(self.devices)), self.devices)
            with self.trace.of_step(self.step):
                state, scalars = self.steps[due.logs](state, shards, settings)
            # The previous step is checked while this one runs: no step waits for the host.
            self._require_finite(unchecked)
            unchecked = _Taken(self.step, scalars, of_step)
            if self.step == first + 1:
                jax.block_until_ready(scalars)
                rhythm = f"a line follows every {self.config.log_every:,}"
                print(f"step {self.step:,} is taken; {rhythm}", flush=True)
                self.progress.restart(self.step)  # compiling is over
            if any(due):
                self._require_finite(unchecked, state if due.validates or due.saves else None)
                self._follow_up(due, state, scalars)
                self.progress.restart(self.step)
        self.trace.end()
        if unchecked is not None:
            self._require_finite(unchecked, state)
            # Runs that have not ended: asked to stop, or too few for so large a program.
            self._save(self._running(), state)
        return state

    def ending(self) -> str:
        """Says why training ended, and what was best; of several runs, how many ended."""
        if len(self.places) == 1:
            (run,) = self.places.values()
            why = ending(run.config, self.step, run.log.lines, self.stop)
            return f"{why}\n{self.progress.spent()}"
        left = sum(run.is_running for run in self.places.values())
        return (
            f"step {self.step:,}: {len(self.places) - left} of {len(self.places)} runs have ended, "
            f"all are saved\n{self.progress.spent()}"
        )

    def _goes_on(self) -> bool:
        """True while steps are left, nobody asked to stop, and more than half of the runs run."""
        running = sum(run.is_running for run in self.places.values())
        return self.step < self.config.steps and not self.stop and running > len(self.places) / 2

    def _due(self) -> _Due:
        is_last = self.step == self.config.steps
        every = self.config.log_every, self.config.eval_every, self.config.checkpoint_every
        return _Due(*(is_last or self.step % steps == 0 for steps in every))

    def _batches(self, step: int) -> Iterator[Batches]:
        """A batch for each seed: its own order, as of a run alone, is part of what seeds vary."""
        size = self.config.batch_size
        streams = [
            train_batches(self.dataset, "train", size, row[0].config.seed, step, spec=self.spec)
            for row in self.grid
        ]
        return zip(*streams, strict=True)

    def _require_finite(self, taken: _Taken | None, state: TrainState | None = None) -> None:
        """Ends runs whose loss is not finite, or whose state is not where it is given.

        They leave the best that they had.
        """
        if taken is None:
            return
        scalars = dict(taken.scalars)
        if state is not None:
            scalars["state_norm"] = self.state_norms(state)
        values = jax.device_get(scalars)
        for place, run in self._running().items():
            of_run = {name: rows[place] for name, rows in values.items()}
            run.require_finite(taken.step, of_run, taken.batches[place[0]])
            if run.failure:
                self._save_best(place)

    def _follow_up(self, due: _Due, state: TrainState, scalars: Mapping[str, jax.Array]) -> None:
        """Logs, validates and saves after a step, and tells it in a line."""
        running = self._running()
        speed = self.progress.examples_per_second(self.step)  # of all runs
        lines: dict[Place, dict[str, float]] = {place: {} for place in running}
        if due.logs:
            values = jax.device_get(scalars)
            for place, line in lines.items():
                line |= {f"train/{name}": float(rows[place]) for name, rows in values.items()}
                line["train/examples_per_second"] = speed
        validations = self._validate(state) if due.validates else {}
        is_best = np.zeros(self.shape, bool)
        for place, run in running.items():
            is_best[place] = run.note(self.step, lines[place], validations.get(place))
        if is_best.any():
            best = state if self.best is None else self.best
            self.best = grids.updated(best, state, jax.device_put(is_best))
        if running and (due.logs or due.validates):
            print(self._line(lines, validations), flush=True)
        # A run that ends with this step is saved whatever is due.
        saved = [place for place, run in running.items() if due.saves or not run.is_running]
        self._save(saved, state)

    def _validate(self, state: TrainState) -> dict[Place, dict[str, float]]:
        """Each running run's evaluations, `config.evals`, over the whole validation split."""
        with self.progress.timed("validation"):
            size = self.config.batch_size
            batches = evaluation_batches(self.dataset, "validation", size, self.spec)
            embedded = embed_batches(self.embed, state.trained, batches, size, self.devices)
            split = embeddings.collect(embedded, "validation", {})
            video, music = (
                grids.embeddings_of(rows, self.shape) for rows in (split.video_emb, split.music_emb)
            )
            evaluations = [EVALS[name] for name in self.config.evals]
            return {
                place: {
                    name: value
                    for evaluate in evaluations
                    for name, value in evaluate(
                        video[place], music[place], split.gt_music_index
                    ).items()
                }
                for place in self._running()
            }

    def _running(self) -> dict[Place, OpenRun]:
        return {place: run for place, run in self.places.items() if run.is_running}

    def _save(self, places: Iterable[Place], state: TrainState) -> None:
        """Saves the states of runs, each after its best where that is another one."""
        with self.progress.timed("checkpoints"):
            for place in places:
                run = self.places[place]
                if run.unsaved_best is not None and run.unsaved_best[0] < self.step:
                    self._save_best(place)
                run.save(self.step, grids.entry(state, place))

    def _save_best(self, place: Place) -> None:
        if self.places[place].unsaved_best is not None:
            self.places[place].save_best(grids.entry(self.best, place))

    def _line(
        self,
        lines: Mapping[Place, Mapping[str, float]],
        validations: Mapping[Place, Mapping[str, float]],
    ) -> str:
        """The line that a person watches."""
        selection = self.config.selection
        if len(self.places) == 1:
            validation = {f"val/{name}": x for name, x in validations.get((0, 0), {}).items()}
            return self.progress.line(self.step, {**lines[0, 0], **validation}, selection)
        line = f"step {self.step:,}/{self.config.steps:,}  "
        line += f"{len(self._running())} of {len(self.places)} runs"
        if validations:
            scores = [validation[selection] for validation in validations.values()]
            line += f"  val {selection} {min(scores):.1f} to {max(scores):.1f}"
        return line


def _by_seed(batches: Batches, device_count: int) -> dict[str, np.ndarray]:
    """Stacks the batches of S seeds for a step: each leaf (devices, S, n, ...)."""
    shards = [on_devices.split(step_inputs(batch), device_count) for batch in batches]
    if len(shards) == 1:  # without a copy
        return {name: rows[:, None] for name, rows in shards[0].items()}
    return jax.tree.map(lambda *rows: np.stack(rows, axis=1), *shards)
