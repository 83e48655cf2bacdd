"""The training loop: it reads like its own summary."""

import pathlib
from collections.abc import Callable, Sequence

import jax
import ml_collections

from vmr import embeddings
from vmr.data.dataset import Dataset
from vmr.data.pipeline import train_batches
from vmr.data.view import View
from vmr.evaluation import recalls
from vmr.training import build
from vmr.training import devices as on_devices
from vmr.training import workdir as run_folder
from vmr.training.checkpoints import Checkpoints
from vmr.training.config import require_sound
from vmr.training.ending import ending
from vmr.training.finite import require_finite, state_norm
from vmr.training.first_state import first_states
from vmr.training.inference import embed_batches
from vmr.training.metrics_log import MetricsLog
from vmr.training.progress import Progress
from vmr.training.reading import evaluation_batches, on_device, sound_dataset_of, view_of
from vmr.training.signals import StopRequest, stop_requests
from vmr.training.state import TrainState
from vmr.training.stopping import stops_early


def train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    devices: Sequence[jax.Device] | None = None,
) -> TrainState:
    """Trains a run to its end, going on from its latest checkpoint if it has one.

    Args:
      config: as `configs/vmnet.py` describes it.
      workdir: the run's folder: config, environment, checkpoints, metrics.
      devices: to share each batch; all local devices by default.

    Returns:
      The last state, replicated over the devices.

    Raises:
      UserError: a field, the data or the folder is wrong, another process trains there, or the
        loss or the state is not finite.
      KeyboardInterrupt: Ctrl-C was pressed; the run is saved.
      SystemExit: SIGTERM came; the run is saved.
    """
    devices = devices or jax.local_devices()
    require_sound(config)
    on_devices.require_divisible(config, devices)
    on_devices.keep_compiled_programs()
    dataset = sound_dataset_of(config)
    view = view_of(config, dataset)

    with (
        run_folder.claimed(workdir, config, dataset.fingerprint),
        Checkpoints(workdir, config.selection) as checkpoints,
    ):
        state = first_states(dataset, view)(config, checkpoints)
        if int(state.step):
            print(f"going on from step {int(state.step):,}", flush=True)
        with stop_requests() as stop, MetricsLog(workdir, int(state.step)) as log:
            state = _train(config, workdir, dataset, view, state, checkpoints, log, devices, stop)
    print(ending(config, int(state.step), log.lines, stop), flush=True)
    stop.end()
    return state


def _train(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    dataset: Dataset,
    view: View,
    state: TrainState,
    checkpoints: Checkpoints,
    log: MetricsLog,
    devices: Sequence[jax.Device],
    stop: StopRequest,
) -> TrainState:
    step_of_config = build.build_step(config, len(devices), on_devices.AXIS)
    take_step = on_devices.pmapped_train_step(step_of_config, devices)
    embed = on_devices.pmapped_embed_step(build.build_model(config), devices)
    norm_of = jax.jit(state_norm)
    weights = on_devices.replicated(build.build_weights(config), devices)
    state = on_devices.replicated(state, devices)
    step = int(state.step)
    batches = train_batches(dataset, "train", config.batch_size, config.seed, step, view)
    first_step = step
    progress = Progress(step, config.steps, config.batch_size)
    ended = stops_early(config, log.lines)
    unchecked = None

    while step < config.steps and not ended and not stop:
        batch = next(batches)
        step += 1
        is_last = step == config.steps
        logs, validates, saves = (
            is_last or step % every == 0
            for every in (config.log_every, config.eval_every, config.checkpoint_every)
        )
        if step == first_step + 1:
            print(f"compiling the step for {on_devices.told(devices)}", flush=True)
        shards = on_devices.sharded(on_device(batch), len(devices))
        state, scalars = take_step(state, shards, weights, logs)
        # The previous step is checked while this one runs: no step waits for the host.
        if unchecked is not None:
            require_finite(workdir, *unchecked)
        unchecked = (step, scalars, batch)
        if step == first_step + 1:
            jax.block_until_ready(scalars)
            print(f"step {step:,} is taken; a line follows every {config.log_every:,}", flush=True)
            progress.restart(step)  # compiling is over
        if not (logs or validates or saves):
            continue
        if validates or saves:
            unchecked = (step, {**scalars, "state_norm": norm_of(state)}, batch)
        require_finite(workdir, *unchecked)
        line: dict[str, float] = {}
        if logs:
            line |= {f"train/{name}": float(value) for name, value in scalars.items()}
            line["train/examples_per_second"] = progress.examples_per_second(step)
        validation = None
        if validates:
            validation = _validate(config, embed, state, dataset, view, devices)
        line |= {f"val/{name}": value for name, value in (validation or {}).items()}
        if line:
            log.write(step, line)
            print(progress.line(step, line, config.selection), flush=True)
        if validates or saves:
            checkpoints.save(state, validation)
        if validates:
            ended = stops_early(config, log.lines)
        progress.restart(step)
    if stop and unchecked is not None:
        require_finite(workdir, step, {**unchecked[1], "state_norm": norm_of(state)}, unchecked[2])
        checkpoints.save(state, None)
    return state


def _validate(
    config: ml_collections.ConfigDict,
    embed: Callable[..., tuple[jax.Array, jax.Array]],
    state: TrainState,
    dataset: Dataset,
    view: View,
    devices: Sequence[jax.Device],
) -> dict[str, float]:
    """Recalls and ranks over the whole validation split."""
    batches = evaluation_batches(dataset, "validation", config.batch_size, view)
    embedded = embed_batches(embed, state, batches, config.batch_size, devices)
    split = embeddings.collect(embedded, "validation", {})
    return recalls(split.video_emb, split.music_emb, split.gt_music_index)
