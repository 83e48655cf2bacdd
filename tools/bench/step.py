"""Times a VM-NET training step, and the export of video embeddings, against TensorFlow and torch.

    python -m tools.bench.step --batch_size=1000

Published sizes and losses (top-100 ranking, adjacent structure, Adam), each peer written as its
users would: a `tf.function` over the whole step, a torch module with `torch.optim.Adam`. torch
takes part where it is installed.
"""

import functools
import itertools
from typing import Any

import numpy as np
from absl import flags

from tools.bench.ceilings import loss_operations, measured_ceilings
from tools.bench.paired import Prepared, installed, lines, take_turns
from tools.bench.peers import Batch, vmnet_in_tensorflow, vmnet_in_torch
from tools.bench.records import Record, require_new
from vmr.command import run

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1000, "Pairs a step.", lower_bound=2)
_SECONDS = flags.DEFINE_float("seconds", 30, "At most, after five rounds, for each table.")
_RECORD = flags.DEFINE_string("record", None, "New file for `tools.bench.losses --merge`.")

VIDEO, MUSIC, WIDTH = 1024, 1140, 512
HIDDEN = {"video": (2048,), "music": (2048, 1024)}
DROPOUT = 0.1


def features(batch_size: int) -> dict[str, np.ndarray]:
    """Batch of random features, each pair with a track of its own."""
    random = np.random.default_rng(0)
    return {
        "video": random.standard_normal((batch_size, VIDEO), np.float32),
        "music": random.standard_normal((batch_size, MUSIC), np.float32),
        "track": np.arange(batch_size, dtype=np.int32),
    }


def _ours() -> Any:
    """Config, model and initial state of configs/vmnet.py."""
    from configs import vmnet
    from vmr.training import build
    from vmr.training.state import placeholder_standardization

    config = vmnet.get_config()
    statistics = placeholder_standardization({"video": VIDEO, "music": MUSIC})
    return config, build.build_model(config), build.build_state(config, statistics)


def our_step(batch_size: int) -> Prepared:
    """Our pmapped step; its batch comes from NumPy each time."""
    import jax

    from vmr.training import build
    from vmr.training import devices as on_devices

    config, _, state = _ours()
    devices = jax.local_devices()
    step = functools.partial(build.build_step(config, len(devices), on_devices.AXIS), logs=False)
    take = on_devices.pmapped_train_step(step, devices)
    weights = on_devices.replicated(build.build_weights(config), devices)
    batch, state = features(batch_size), on_devices.replicated(state, devices)

    def run_step() -> None:
        nonlocal state
        shards = on_devices.sharded(on_devices.split(batch, len(devices)), devices)
        state, scalars = take(state, shards, weights)
        float(scalars["loss"])  # waits for the step

    return Prepared(run_step)


def tensorflow_step(batch_size: int) -> Prepared:
    """Step as one `tf.function`."""
    import tensorflow as tf

    batch = {name: tf.constant(rows) for name, rows in features(batch_size).items()}
    towers, loss_of = {side: _tensorflow_tower(tf, side) for side in HIDDEN}, vmnet_in_tensorflow()
    variables = [variable for tower in towers.values() for variable in tower["variables"]]
    optimizer = tf.keras.optimizers.Adam(3e-4, 0.9, 0.999, 1e-8)
    optimizer.build(variables)

    @tf.function
    def step(video: Any, music: Any) -> Any:
        with tf.GradientTape() as tape:
            z_video = _tensorflow_embed(tf, towers["video"], video, train=True)
            z_music = _tensorflow_embed(tf, towers["music"], music, train=True)
            loss = loss_of(Batch(z_video, z_music, video, music, batch["track"]))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return Prepared(lambda: float(step(batch["video"], batch["music"])))


def _tensorflow_tower(tf: Any, side: str) -> dict[str, Any]:
    widths = [VIDEO if side == "video" else MUSIC, *HIDDEN[side], WIDTH]
    kernels = [
        tf.Variable(tf.random.truncated_normal([before, after], stddev=(2 / before) ** 0.5))
        for before, after in itertools.pairwise(widths)
    ]
    biases = [tf.Variable(tf.zeros([after])) for after in widths[1:]]
    scale, shift = tf.Variable(tf.ones([WIDTH])), tf.Variable(tf.zeros([WIDTH]))
    moving = [tf.Variable(tf.zeros([WIDTH])), tf.Variable(tf.ones([WIDTH]))]
    return {
        "layers": list(zip(kernels, biases, strict=True)),
        "norm": (scale, shift),
        "moving": moving,
        "variables": [*kernels, *biases, scale, shift],
    }


def _tensorflow_embed(tf: Any, tower: dict[str, Any], x: Any, train: bool) -> Any:
    *hidden, (kernel, bias) = tower["layers"]
    for weights, offsets in hidden:
        x = tf.nn.relu(tf.matmul(x, weights) + offsets)
        x = tf.nn.dropout(x, DROPOUT) if train else x
    x = tf.matmul(x, kernel) + bias
    mean, variance = tower["moving"]
    if train:
        batch_mean, batch_variance = tf.nn.moments(x, [0])
        mean.assign(0.99 * mean + 0.01 * batch_mean)
        variance.assign(0.99 * variance + 0.01 * batch_variance)
        mean, variance = batch_mean, batch_variance
    scale, shift = tower["norm"]
    x = tf.nn.batch_normalization(x, mean, variance, shift, scale, 1e-3)
    return tf.nn.l2_normalize(x, 1)


def torch_step(batch_size: int) -> Prepared:
    """Step in torch, eager."""
    import torch

    batch = {name: torch.from_numpy(rows) for name, rows in features(batch_size).items()}
    loss_of = vmnet_in_torch()
    towers = {side: _torch_tower(torch, side) for side in HIDDEN}
    parameters = [p for tower in towers.values() for p in tower.parameters()]
    optimizer = torch.optim.Adam(parameters, 3e-4, (0.9, 0.999), 1e-8)

    def step() -> float:
        z_video = torch.nn.functional.normalize(towers["video"](batch["video"]))
        z_music = torch.nn.functional.normalize(towers["music"](batch["music"]))
        loss = loss_of(Batch(z_video, z_music, batch["video"], batch["music"], batch["track"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    return Prepared(step)


def _torch_tower(torch: Any, side: str) -> Any:
    nn = torch.nn
    widths = [VIDEO if side == "video" else MUSIC, *HIDDEN[side]]
    layers: list[Any] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], WIDTH), nn.BatchNorm1d(WIDTH, 1e-3, 0.01))


def our_export(batch_size: int) -> Prepared:
    """Our export of video embeddings; its features come from NumPy each time."""
    import jax

    from vmr.training.inputs import model_inputs

    _, model, state = _ours()

    @jax.jit
    def embed(batch: dict[str, jax.Array]) -> jax.Array:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        video, _ = model_inputs(batch, state.standardization)
        return model.apply(variables, video, method="embed_video")

    batch = features(batch_size)
    return Prepared(lambda: np.asarray(embed(batch)))


def tensorflow_export(batch_size: int) -> Prepared:
    """Export of the video tower as a `tf.function`."""
    import tensorflow as tf

    tower = _tensorflow_tower(tf, "video")
    embed = tf.function(lambda video: _tensorflow_embed(tf, tower, video, train=False))
    video = features(batch_size)["video"]
    return Prepared(lambda: embed(tf.constant(video)).numpy())


def step_operations(batch_size: int) -> float:
    """Least operations of a step's products: encoders and losses, forward and backward.

    A kernel's product has two transposes; the first layer's inputs need no gradient.
    """
    first = VIDEO * HIDDEN["video"][0] + MUSIC * HIDDEN["music"][0]
    encoders = batch_size * (6.0 * (_kernels("video") + _kernels("music")) - 2.0 * first)
    return encoders + loss_operations("vmnet", batch_size, WIDTH, VIDEO)


def export_operations(batch_size: int) -> float:
    """Operations of the video tower's products."""
    return 2.0 * batch_size * _kernels("video")


def _kernels(side: str) -> int:
    """Weights of a tower's kernels."""
    widths = VIDEO if side == "video" else MUSIC, *HIDDEN[side], WIDTH
    return sum(before * after for before, after in itertools.pairwise(widths))


STEPS = ("ours", our_step), ("tensorflow", tensorflow_step), ("torch", torch_step)
EXPORTS = ("ours", our_export), ("tensorflow", tensorflow_export)


def main(_: list[str]) -> None:
    """Measures the step, then the export."""
    require_new(_RECORD.value)
    ceilings, pairs = measured_ceilings(), _BATCH_SIZE.value
    print(ceilings)
    record = Record(_RECORD.value, ceilings)
    for title, contenders, operations in (
        ("training step", STEPS, step_operations(pairs)),
        ("export, video tower", EXPORTS, export_operations(pairs)),
    ):
        print(f"{title}, {pairs} pairs")
        turns = {name: functools.partial(each, pairs) for name, each in contenders}
        measured = take_turns(installed(turns), _SECONDS.value)
        share = functools.partial(ceilings.share, operations)
        print(lines(measured, "pairs", pairs, share), flush=True)
        record.add(title, (pairs, WIDTH), measured, operations)


if __name__ == "__main__":
    run(main)
