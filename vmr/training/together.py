"""The training loop of runs that one program trains together: see `vmr.training.members`."""

import contextlib
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from vmr import embeddings
from vmr.data.dataset import Dataset
from vmr.data.pipeline import train_batches
from vmr.data.view import View
from vmr.errors import UserError
from vmr.evaluation import recalls
from vmr.training import build
from vmr.training import devices as on_devices
from vmr.training import workdir as run_folder
from vmr.training.config import require_sound
from vmr.training.finite import state_norm
from vmr.training.first_state import first_states
from vmr.training.inference import embed_batches
from vmr.training.member import Member
from vmr.training.members import (
    embeddings_of,
    member_of,
    members_embed,
    members_step,
    settings_of,
    stacked,
    takes_at_once,
)
from vmr.training.progress import Progress
from vmr.training.reading import evaluation_batches, on_device, sound_dataset_of, view_of
from vmr.training.signals import StopRequest, stop_requests
from vmr.training.state import TrainState

Grid = Sequence[Sequence[Member]]


class Run(NamedTuple):
    """What is to be trained: a config, and the folder that the run is kept in."""

    config: ml_collections.ConfigDict
    workdir: pathlib.Path


def train_together(
    grid: Sequence[Sequence[Run]], devices: Sequence[jax.Device] | None = None
) -> dict[pathlib.Path, str]:
    """Trains runs in one program, each in a folder of its own, as if it had been trained alone.

    Runs go on from their latest checkpoints. Those that end, early or with a loss or a state that
    is not finite, leave the rest to go on; when half of them have left, all are saved and this
    returns, so that the rest may be trained in a smaller program.

    Args:
      grid: S seeds, each with W runs that differ in weights and learning rate alone.
      devices: to share each batch; all local devices by default.

    Returns:
      What stopped the runs that failed, by their folders.

    Raises:
      UserError: a field, the data or a folder is wrong, or another process trains in one, or the
        runs stand at different steps; before any training.
      KeyboardInterrupt: Ctrl-C was pressed; the runs are saved.
      SystemExit: SIGTERM came; the runs are saved.
    """
    devices = devices or jax.local_devices()
    runs = [run for row in grid for run in row]
    config = runs[0].config
    for run in runs:
        require_sound(run.config)
    on_devices.require_divisible(config, devices)
    on_devices.keep_compiled_programs()
    dataset = sound_dataset_of(config)
    view = view_of(config, dataset)
    with contextlib.ExitStack() as opened:
        for run in runs:
            opened.enter_context(run_folder.claimed(run.workdir, run.config, dataset.fingerprint))
        first_state = first_states(dataset, view)
        members = [[opened.enter_context(Member(*run, first_state)) for run in row] for row in grid]
        _require_one_step(members)
        with stop_requests() as stop:
            failures = _Together(members, dataset, view, devices, stop).train()
    stop.end()
    return failures


def _require_one_step(grid: Grid) -> None:
    """Raises UserError where runs stand at different steps, as after a damaged checkpoint."""
    at = {int(member.state.step): member.workdir for row in grid for member in row}
    if len(at) > 1:
        (step, one), (other_step, other), *_ = sorted(at.items())
        raise UserError(
            f"{one} goes on from step {step} and {other} from step {other_step}: one program takes "
            "the same step of all its runs"
        )


class _Together:
    """The loop, and what it needs at every step."""

    def __init__(
        self,
        grid: Grid,
        dataset: Dataset,
        view: View,
        devices: Sequence[jax.Device],
        stop: StopRequest,
    ) -> None:
        self.grid, self.stop = grid, stop
        self.places = {
            (row, column): member
            for row, members in enumerate(grid)
            for column, member in enumerate(members)
        }
        self.shape = len(grid), len(grid[0])
        self.config = grid[0][0].config
        self.dataset, self.view, self.devices = dataset, view, devices
        at_once = takes_at_once(devices)
        step = functools.partial(
            members_step, config=self.config, device_count=len(devices), at_once=at_once
        )
        self.take_step = on_devices.pmapped_train_step(step, devices)
        embed = functools.partial(
            members_embed, model=build.build_model(self.config), at_once=at_once
        )
        self.embed = jax.pmap(embed, in_axes=(None, 0), devices=devices)
        self.state_norms = jax.jit(jax.vmap(jax.vmap(state_norm)))

    def train(self) -> dict[pathlib.Path, str]:
        config = self.config
        state = on_devices.replicated(
            stacked([[member.state for member in row] for row in self.grid]), self.devices
        )
        settings = on_devices.replicated(
            settings_of([[member.config for member in row] for row in self.grid]), self.devices
        )
        step = int(np.asarray(state.step)[0, 0])
        batches = self._batches(step)
        progress = Progress(step, config.steps, config.batch_size * len(self.places))
        first_step, unchecked = step, None

        while step < config.steps and self._go_on() and not self.stop:
            batch = next(batches)
            step += 1
            is_last = step == config.steps
            logs, validates, saves = (
                is_last or step % every == 0
                for every in (config.log_every, config.eval_every, config.checkpoint_every)
            )
            if step == first_step + 1:
                print(f"compiling the step for {on_devices.told(self.devices)}", flush=True)
            state, scalars = self.take_step(state, self._sharded(batch), settings, logs)
            # The previous step is checked while this one runs: no step waits for the host.
            if unchecked is not None:
                self._require_finite(*unchecked)
            unchecked = (step, scalars, batch)
            if step == first_step + 1:
                jax.block_until_ready(scalars)
                progress.restart(step)  # compiling is over
            if not (logs or validates or saves):
                continue
            self._require_finite(*unchecked, state if validates or saves else None)
            lines: dict[tuple[int, int], dict[str, float]] = {place: {} for place in self.places}
            if logs:
                self._add_scalars(lines, scalars, progress.examples_per_second(step))
            validations = self._validate(state) if validates else {}
            self._note(step, lines, validations, state)
            if saves:
                self._save(state)
            progress.restart(step)
        if unchecked is not None:
            self._require_finite(*unchecked, state)
        if step:
            self._save(state)
        return {member.workdir: member.failure for member in self.places.values() if member.failure}

    def _go_on(self) -> bool:
        """While more than half of the members are there."""
        return sum(member.runs for member in self.places.values()) > len(self.places) / 2

    def _batches(self, step: int) -> Iterator[list[Mapping[str, np.ndarray]]]:
        """A batch for each seed."""
        seeds = [row[0].config.seed for row in self.grid]
        streams = [
            train_batches(self.dataset, "train", self.config.batch_size, seed, step, view=self.view)
            for seed in seeds
        ]
        return map(list, zip(*streams, strict=True))

    def _sharded(self, batches: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The batches of S seeds, each leaf (devices, S, n, ...)."""
        shards = [on_devices.sharded(on_device(batch), len(self.devices)) for batch in batches]
        return jax.tree.map(lambda *rows: np.stack(rows, axis=1), *shards)

    def _require_finite(
        self,
        step: int,
        scalars: Mapping[str, Any],
        batches: list[Mapping[str, np.ndarray]],
        state: TrainState | None = None,
    ) -> None:
        """A member whose loss is not finite leaves, as does one whose state is not, where given."""
        if state is not None:
            scalars = {**scalars, "state_norm": self.state_norms(state)}
        values = {name: np.asarray(scalars[name]) for name in scalars}
        for place, member in self.places.items():
            if member.runs:
                of_member = {name: rows[place] for name, rows in values.items()}
                member.require_finite(step, of_member, batches[place[0]])

    def _add_scalars(
        self,
        lines: dict[tuple[int, int], dict[str, float]],
        scalars: Mapping[str, Any],
        speed: float,
    ) -> None:
        values = {name: np.asarray(rows) for name, rows in scalars.items()}
        for place, line in lines.items():
            line |= {f"train/{name}": float(rows[place]) for name, rows in values.items()}
            line["train/examples_per_second"] = speed  # of all members

    def _validate(self, state: TrainState) -> dict[tuple[int, int], dict[str, float]]:
        """Recalls and ranks of the running members over the whole validation split."""
        size = self.config.batch_size
        batches = evaluation_batches(self.dataset, "validation", size, self.view)
        embedded = embed_batches(self.embed, state, batches, size, self.devices)
        split = embeddings.collect(embedded, "validation", {})
        video, music = (
            embeddings_of(rows, self.shape) for rows in (split.video_emb, split.music_emb)
        )
        return {
            place: recalls(video[place], music[place], split.gt_music_index)
            for place, member in self.places.items()
            if member.runs
        }

    def _note(
        self,
        step: int,
        lines: Mapping[tuple[int, int], dict[str, float]],
        validations: Mapping[tuple[int, int], dict[str, float]],
        state: TrainState,
    ) -> None:
        """Writes each member's line, keeps its best state, and its last where it ends here."""
        for place, member in self.places.items():
            if member.runs:
                member.note(
                    step,
                    lines[place],
                    validations.get(place),
                    functools.partial(member_of, state, place),
                )
        running = [member for member in self.places.values() if member.runs]
        print(self._line(step, running, validations), flush=True)

    def _line(
        self,
        step: int,
        running: Sequence[Member],
        validations: Mapping[tuple[int, int], dict[str, float]],
    ) -> str:
        scores = [found[self.config.selection] for found in validations.values()]
        line = f"step {step:,}/{self.config.steps:,}  {len(running)} of {len(self.places)} runs"
        if scores:
            line += f"  val {self.config.selection} {min(scores):.1f} to {max(scores):.1f}"
        return line

    def _save(self, state: TrainState) -> None:
        for place, member in self.places.items():
            if member.runs:
                member.save(member_of(state, place))
