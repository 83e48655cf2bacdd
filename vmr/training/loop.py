"""Training loop: one program trains a grid of runs; a single run is the 1 × 1 grid."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from vmr import distributed, embeddings
from vmr.data.dataset import Dataset
from vmr.errors import UserError
from vmr.training import build, determinism, profiling
from vmr.training import devices as on_devices
from vmr.training import grid as grids
from vmr.training import run_dir as run_folder
from vmr.training.agreed_stop import AgreedStop
from vmr.training.config import differing, require_sound, resolved
from vmr.training.embed import embed_batches
from vmr.training.evals import EVALS
from vmr.training.feed import Feed
from vmr.training.grid import Grid, Run
from vmr.training.log import state_norm
from vmr.training.open_run import OpenRun
from vmr.training.profiling import StepTrace
from vmr.training.progress import Progress, ending
from vmr.training.reading import batch_spec_of, feature_widths, sound_dataset_of
from vmr.training.signals import StopRequest, stop_requests
from vmr.training.start import start_of
from vmr.training.state import TrainState
from vmr.training.teacher import teacher_of
from vmr.training.trained import SavedModel

Batches = Sequence[Mapping[str, np.ndarray]]  # one per seed
Slot = tuple[int, int]  # row (seed) and column of a run in the grid


def train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    devices: Sequence[jax.Device] | None = None,
    profile: tuple[int, int] | None = None,
) -> TrainState:
    """Trains a run to its end, from its latest checkpoint if it has one.

    Args:
      config: config of the run; `vmr.training.base_config` explains its fields.
      workdir: folder of the run, for config, environment, checkpoints and metrics.
      devices: devices that share each batch; all of this process by default, and only these where
        several processes share it.
      profile: first and last step to trace into `workdir/profile`.

    Returns:
      The last state, on the host.

    Raises:
      UserError: a field, the data or the folder is wrong, another process trains in the folder, or
        the loss or the state is not finite.
      KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
      SystemExit: SIGTERM came; the run is saved.
    """
    state, failures = _train([[Run(config, workdir)]], devices, profile)
    for failure in failures.values():
        raise UserError(failure)
    return grids.entry(state, (0, 0))


def train_grid(grid: Grid, devices: Sequence[jax.Device] | None = None) -> dict[pathlib.Path, str]:
    """Trains the runs of a grid in one program, each in its folder as if it were trained alone.

    Runs go on from their latest checkpoints. One that stops early, or fails with a loss or a state
    that is not finite, leaves the others running. Once half of the runs have ended, the rest are
    saved and the function returns: the caller may train these in a smaller program.

    Args:
      grid: S seeds, each with W runs that differ in weights and learning rate only.
      devices: devices that share each batch; all of this process by default, and only these where
        several processes share it.

    Returns:
      The error of each run that failed, by its folder.

    Raises:
      UserError: a field, the data or a folder is wrong, another process trains in a folder, or the
        runs stand at different steps; raised before any training.
      KeyboardInterrupt: Ctrl-C was pressed; the runs are saved.
      SystemExit: SIGTERM came; the runs are saved.
    """
    return _train(grid, devices)[1]


def _train(
    grid: Grid,
    devices: Sequence[jax.Device] | None,
    profile: tuple[int, int] | None = None,
) -> tuple[TrainState, dict[pathlib.Path, str]]:
    """Opens the folders, trains, prints how it ended; returns the last state and the failures."""
    devices = devices or jax.local_devices()
    configs = [run.config for row in grid for run in row]
    for config in configs:
        require_sound(config)
    on_devices.require_divisible(configs[0], devices)
    profiling.require_taken(profile, configs[0].steps)
    on_devices.keep_compiled_programs()
    if effect := determinism.effect(devices[0].platform):
        print(effect, flush=True)
    dataset = sound_dataset_of(configs[0])
    _require_same(configs[0], dataset)
    spec = batch_spec_of(configs[0], dataset)
    teacher = teacher_of(configs[0], dataset)
    rows = on_devices.rows_of_process(configs[0].batch_size)
    feed = Feed(configs[0], dataset, spec, devices, teacher, rows)
    # On any error the stack closes what is open: saves in the background end, locks are let go.
    with contextlib.ExitStack() as opened:
        # The first process alone makes the states, and sends them to the others.
        starts = {
            run.workdir: start_of(*run) if distributed.is_first() else None
            for row in grid
            for run in row
        }
        for config, workdir in (run for row in grid for run in row):
            start = starts[workdir]
            account = start.account if start else None
            taught = teacher.account if teacher else None
            opened.enter_context(
                run_folder.claimed(workdir, config, dataset.description, account, taught)
            )
        runs = [[opened.enter_context(OpenRun(*run)) for run in row] for row in grid]
        state = _first_state(runs, feature_widths(dataset, spec), feed, starts)
        trace = StepTrace(grid[0][0].workdir / "profile", profile)
        with stop_requests() as stop:
            loop = _Loop(grid, runs, feed, devices, stop, trace)
            state = loop.train(state)
    print(loop.ending(), flush=True)
    # The first process has saved for all, and any of them may have got a signal since.
    stop.note(max(distributed.from_all(stop.signal or 0)))
    stop.end()  # raises if a signal came, only now that every file is closed
    return state, {run.workdir: run.failure for run in loop.by_slot.values() if run.failure}


def _require_same(config: ml_collections.ConfigDict, dataset: Dataset) -> None:
    """Raises UserError if processes of the run differ in its config or its data."""
    fields = differing({}, resolved(config))
    facts = {f"config.{field}": value for field, (_, value) in fields.items()}
    # Where the data lie, and what holds them, is each host's own; what they are is not.
    for field in ("dataset.data_dir", "dataset.cache", "loss.teacher", "init_from"):
        facts.pop(f"config.{field}", None)
    distributed.require_same({**facts, "dataset fingerprint": dataset.fingerprint})


def _first_state(
    runs: Sequence[Sequence[OpenRun]],
    widths: Mapping[str, int],
    feed: Feed,
    starts: Mapping[pathlib.Path, SavedModel | None],
) -> TrainState:
    """First states of the runs, stacked, fresh or restored; UserError if their steps differ."""

    @functools.cache  # one pass over the data serves all runs
    def measured() -> Mapping[str, Any]:
        print("standardising: by the training split", flush=True)
        return feed.standardization()

    states = [[run.start(widths, measured, starts[run.workdir]) for run in row] for row in runs]
    steps = {
        int(state.step): run.workdir
        for row, states_of_row in zip(runs, states, strict=True)
        for run, state in zip(row, states_of_row, strict=True)
    }
    (step, workdir), *others = sorted(steps.items())
    if others:
        other_step, other_workdir = others[0]
        raise UserError(
            f"{workdir} goes on from step {step} and {other_workdir} from step {other_step}: one "
            "program takes the same step of all its runs"
        )
    if step:
        print(f"going on from step {step:,}", flush=True)
    return grids.stacked(states)


class _Due(NamedTuple):
    """Actions that follow a step."""

    logs: bool
    validates: bool
    saves: bool


class _Step(NamedTuple):
    """Step whose scalars are still on the devices, not yet checked."""

    number: int
    scalars: Mapping[str, jax.Array]
    batches: Batches


@dataclasses.dataclass
class _Loop:
    """Loop over the steps of a grid."""

    grid: Grid
    runs: Sequence[Sequence[OpenRun]]
    feed: Feed
    devices: Sequence[jax.Device]
    stop: StopRequest
    trace: StepTrace

    def __post_init__(self) -> None:
        self.config = config = self.grid[0][0].config  # for the fields that all runs share
        self.by_slot: dict[Slot, OpenRun] = {
            (row, column): run
            for row, of_row in enumerate(self.runs)
            for column, run in enumerate(of_row)
        }
        self.shape = len(self.runs), len(self.runs[0])
        at_once = grids.runs_at_once(self.devices)
        device_count = on_devices.total(self.devices)
        step_options = {"config": config, "device_count": device_count, "at_once": at_once}
        # A program with and one without the scalars of a logged step; each is compiled when first
        # called.
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
        self.best: TrainState | None = None  # (S, W, ...), the states of `OpenRun.unsaved_best`
        self.step = 0
        self.agreed = AgreedStop(self.stop, self.devices)

    def train(self, state: TrainState) -> TrainState:
        """Takes steps until the last one or until too few runs go on; returns the last state."""
        state = on_devices.replicated(state, self.devices)
        settings = on_devices.replicated(grids.settings_of(self.grid), self.devices)
        self.step = first = int(jax.device_get(state.step)[0, 0])
        stream = self.feed.steps([row[0].config.seed for row in self.grid], first)
        self.progress = Progress(
            first, self.config.steps, self.config.batch_size * len(self.by_slot)
        )
        unchecked: _Step | None = None

        while self._goes_on():
            shards, batches = next(stream)
            self.step += 1
            due = self._due()
            if self.step == first + 1:
                print(f"compiling the step for {on_devices.described(self.devices)}", flush=True)
            with self.trace.of_step(self.step):
                state, scalars = self.steps[due.logs](state, shards, settings)
            # JAX dispatches a step without waiting for it: the previous one is checked while this
            # one runs, and the devices never wait for the host.
            self._require_finite(unchecked)
            self.agreed.hear_after_step()
            unchecked = _Step(self.step, scalars, batches)
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
            # Runs that have not ended: a stop was requested, or half of the runs have ended.
            self._save(self._running(), state)
        return state

    def ending(self) -> str:
        """Lines on the end of training: the reason and the best step, or how many runs ended."""
        if len(self.by_slot) == 1:
            (run,) = self.by_slot.values()
            failed = bool(run.failure)
            why = ending(run.config, self.step, run.log.lines, self.stop, failed)
            return f"{why}\n{self.progress.spent()}"
        count, running = len(self.by_slot), len(self._running())
        return (
            f"step {self.step:,}: {count - running} of {count} runs have ended, all are saved\n"
            f"{self.progress.spent()}"
        )

    def _goes_on(self) -> bool:
        """True while steps are left, no stop is requested and more than half of the runs go on."""
        is_worth_it = len(self._running()) > len(self.by_slot) / 2
        return self.step < self.config.steps and not self.agreed and is_worth_it

    def _due(self) -> _Due:
        """Actions that follow this step; after the last step, all of them."""
        is_last = self.step == self.config.steps
        every = self.config.log_every, self.config.eval_every, self.config.checkpoint_every
        return _Due(*(is_last or self.step % steps == 0 for steps in every))

    def _require_finite(self, step: _Step | None, state: TrainState | None = None) -> None:
        """Ends runs whose loss, or state if one is given, is not finite; saves their best state."""
        if step is None:
            return
        scalars = dict(step.scalars)
        if state is not None:
            scalars["state_norm"] = self.state_norms(state)
        values = jax.device_get(scalars)
        for slot, run in self._running().items():
            of_run = {name: rows[slot] for name, rows in values.items()}
            run.require_finite(step.number, of_run, step.batches[slot[0]])
            if run.failure:
                self._save_best(slot)

    def _follow_up(self, due: _Due, state: TrainState, scalars: Mapping[str, jax.Array]) -> None:
        """Logs, validates and saves after a step, and prints a line."""
        running = self._running()
        speed = self.progress.examples_per_second(self.step)  # summed over the runs
        lines: dict[Slot, dict[str, float]] = {slot: {} for slot in running}
        if due.logs:
            values = jax.device_get(scalars)
            for slot, line in lines.items():
                line |= {f"train/{name}": float(rows[slot]) for name, rows in values.items()}
                line["train/examples_per_second"] = speed
        validations = self._validate(state) if due.validates else {}
        is_best = np.zeros(self.shape, bool)
        for slot, run in running.items():
            is_best[slot] = run.note(self.step, lines[slot], validations.get(slot))
        if is_best.any():
            # Kept on the devices and saved with the next checkpoint: validation may be frequent,
            # writing is slow.
            best = state if self.best is None else self.best
            self.best = grids.updated(best, state, jax.device_put(is_best))
        if running and (due.logs or due.validates):
            print(self._line(lines, validations), flush=True)
        # A run that ends with this step is saved even if no checkpoint is due.
        saved = [slot for slot, run in running.items() if due.saves or not run.is_running]
        self._save(saved, state)

    def _validate(self, state: TrainState) -> dict[Slot, dict[str, float]]:
        """Evaluations `config.evals` of every running run over the whole validation split."""
        with self.progress.timed("validation"):
            size = self.config.batch_size
            batches = self.feed.validation()
            embedded = embed_batches(self.embed, state.trained, batches, size, self.devices)
            # The runs lie side by side as one wide embedding: tracks are collected once for all.
            split = embeddings.collect(embedded, "validation", {})
            # Of several processes one decides, whose last bit might differ from another's.
            return distributed.from_first(lambda: self._scores(split))

    def _scores(self, split: embeddings.Embeddings) -> dict[Slot, dict[str, float]]:
        """Scores of every running run, from all runs' embeddings side by side."""
        video, music = (
            grids.embeddings_of(rows, self.shape) for rows in (split.video_emb, split.music_emb)
        )
        evaluations = [EVALS[name] for name in self.config.evals]
        return {
            slot: {
                name: value
                for evaluate in evaluations
                for name, value in evaluate(video[slot], music[slot], split.gt_music_index).items()
            }
            for slot in self._running()
        }

    def _running(self) -> dict[Slot, OpenRun]:
        return {slot: run for slot, run in self.by_slot.items() if run.is_running}

    def _save(self, slots: Iterable[Slot], state: TrainState) -> None:
        """Saves the states of runs, each after its best state if that is an earlier one."""
        if not distributed.is_first():
            return
        with self.progress.timed("checkpoints"):
            for slot in slots:
                run = self.by_slot[slot]
                # In the order of their steps, as Orbax expects.
                if run.unsaved_best is not None and run.unsaved_best[0] < self.step:
                    self._save_best(slot)
                run.save(self.step, grids.entry(state, slot))

    def _save_best(self, slot: Slot) -> None:
        if self.by_slot[slot].unsaved_best is not None and distributed.is_first():
            self.by_slot[slot].save_best(grids.entry(self.best, slot))

    def _line(
        self,
        lines: Mapping[Slot, Mapping[str, float]],
        validations: Mapping[Slot, Mapping[str, float]],
    ) -> str:
        """Line on a step for the console."""
        selection = self.config.selection
        if len(self.by_slot) == 1:
            validation = {f"val/{name}": x for name, x in validations.get((0, 0), {}).items()}
            return self.progress.line(self.step, {**lines[0, 0], **validation}, selection)
        line = f"step {self.step:,}/{self.config.steps:,}  "
        line += f"{len(self._running())} of {len(self.by_slot)} runs"
        if validations:
            scores = [validation[selection] for validation in validations.values()]
            line += f"  val {selection} {min(scores):.1f} to {max(scores):.1f}"
        return line
