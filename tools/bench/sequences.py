"""Times training on sequences, its wait for input, and its parts against their peers.

    python -m tools.bench.sequences
    python -m tools.bench.sequences --config=configs/ii_clvtm.py --data_dir=data/DATASET --steps=50

Training takes the loop's own step on the config's own batches. Clips of both modalities count,
without padding; an item is a pair. The share of time that a step waits for its input is 1 − (a step
on one batch over and over) / (a step on the pipeline's batches), in rounds of one and the other;
each step is waited for once the next one runs, as in the loop. On a CPU it includes the processor
time that the input takes from the step.

Then the video tower, forward and backward, against Flax's own attention and torch's encoder; and,
on generated records (300 frames × 1152 bytes), the clips of the input against plain tf.data.
"""

import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

from configs import ii_clvm
from tools.bench import paired
from tools.bench.frames import clips_table, generate_frames
from tools.bench.paired import Prepared
from vmr.command import run
from vmr.data.dataset import Dataset
from vmr.data.pipeline import train_batches
from vmr.training import build
from vmr.training import devices as on_devices
from vmr.training.config import require_sound
from vmr.training.reading import (
    batch_spec_of,
    dataset_of,
    feature_widths,
    standardization_of,
    step_inputs,
)

Batch = Mapping[str, np.ndarray]
# More batches than the pipeline reads ahead; they are dropped before its steps are timed.
_READ_AHEAD = 6


def main(argv: list[str]) -> None:
    """Measures training, then the tower and the input against their peers."""
    del argv
    print(f"{paired.machine()}; JAX {jax.__version__}", flush=True)
    config = flags.FLAGS.config or ii_clvm.get_config()
    with tempfile.TemporaryDirectory(prefix="vmr_bench_") as folder:
        source = None
        if not flags.FLAGS.data_dir:
            source, _ = generate_frames(Path(folder), flags.FLAGS.records, "tools.bench.sequences")
        config.dataset.data_dir = flags.FLAGS.data_dir or str(Path(folder) / "frames")
        require_sound(config)
        dataset = dataset_of(config)
        print(training(config, dataset, flags.FLAGS.steps, flags.FLAGS.rounds), flush=True)
        print(tower_table(config, dataset), flush=True)
        if source is None:
            print("input: skipped, its peer reads generated records (leave --data_dir out)")
        else:
            print(clips_table(source, dataset.data_dir, config.sampling.clips, flags.FLAGS.seconds))


def training(
    config: ml_collections.ConfigDict,
    dataset: Dataset,
    steps: int,
    rounds: int,
    devices: Sequence[jax.Device] = (),
) -> str:
    """Throughput and the share of time spent waiting for input, median and range of the rounds."""
    spec = batch_spec_of(config, dataset)
    batches = train_batches(dataset, "train", config.batch_size, config.seed, spec=spec)
    take = _stepper(config, dataset, list(devices) or jax.local_devices())
    again = repeat(next(batches))
    take(again, 1)  # compiled

    def seconds_a_step(batches: Iterator[Batch]) -> tuple[float, float]:
        take(batches, 1)
        start = time.perf_counter()
        clips = take(batches, steps)
        return (time.perf_counter() - start) / steps, clips / steps

    still, fed, clips = [], [], []
    for _ in range(rounds):
        still.append(seconds_a_step(again)[0])
        for _ in islice(batches, _READ_AHEAD):
            pass
        seconds, clips_a_step = seconds_a_step(batches)
        fed.append(seconds)
        clips.append(clips_a_step)
    times = np.array(fed)
    return (
        f"training, batches of {config.batch_size}, {rounds} rounds of {steps} steps\n"
        f"  items/s            {paired.spread(config.batch_size / times)}\n"
        f"  clips/s            {paired.spread(np.array(clips) / times)}\n"
        f"  waiting for input  {paired.spread(1 - np.array(still) / times)}"
    )


def _stepper(
    config: ml_collections.ConfigDict, dataset: Dataset, devices: Sequence[jax.Device]
) -> Callable[[Iterator[Batch], int], int]:
    """Function that takes steps on so many batches, as the loop does, and returns their clips."""
    on_devices.require_divisible(config, devices)
    built = build.build_step(config, len(devices), on_devices.AXIS)
    step = functools.partial(built, logs=False)
    take_step = on_devices.pmapped_train_step(step, devices)
    weights = on_devices.replicated(build.build_weights(config), devices)
    statistics = standardization_of(dataset, batch_spec_of(config, dataset))
    state = on_devices.replicated(build.build_state(config, statistics), devices)

    def take(batches: Iterator[Batch], count: int) -> int:
        nonlocal state
        clips, unfinished = 0, None
        for batch in islice(batches, count):
            clips += clips_of(batch)
            shards = on_devices.sharded(on_devices.split(step_inputs(batch), len(devices)), devices)
            state, scalars = take_step(state, shards, weights)
            # As in the loop: while this step runs, the one before is waited for.
            jax.block_until_ready(unfinished)
            unfinished = scalars
        jax.block_until_ready(unfinished)
        return clips

    return take


def clips_of(batch: Batch) -> int:
    """Number of clips in a batch, of both modalities; a vector of a whole item is one."""
    return sum(
        int(batch[f"{side}_mask"].sum()) if f"{side}_mask" in batch else len(batch[side])
        for side in ("video", "music")
    )


@dataclass(frozen=True)
class Sizes:
    """Sizes of a batch and of a tower."""

    batch: int
    clips: int
    features: int
    width: int
    model_width: int
    layers: int
    heads: int
    mlp_ratio: int


def tower_table(config: ml_collections.ConfigDict, dataset: Dataset) -> str:
    """Times the video tower of the config, without dropout, against the libraries' own."""
    if config.model.video.encoder != "transformer":
        return "tower: skipped, the config's video encoder is no transformer"
    options, spec = config.model.transformer, batch_spec_of(config, dataset)
    sizes = Sizes(
        batch=config.batch_size,
        clips=spec.clips,
        features=feature_widths(dataset, spec)["video"],
        width=config.model.embedding_width,
        **{name: options[name] for name in ("model_width", "layers", "heads", "mlp_ratio")},
    )
    contenders = {name: functools.partial(tower, sizes) for name, tower in TOWERS.items()}
    measured = paired.take_turns(paired.installed(contenders), flags.FLAGS.seconds)
    rows = paired.lines(measured, "items", sizes.batch)
    return f"\ntower, forward and backward: {sizes}\n{rows}"


# All towers have one shape: dense, learnt positions, pre-LN blocks of attention and MLP, LayerNorm,
# mean over the unmasked clips, dense, unit rows. None has dropout, which differs by library.


def our_tower(sizes: Sizes) -> Prepared:
    """Our tower, `vmr.encoders.transformer`."""
    from vmr.encoders.transformer import Transformer

    model = Transformer(
        width=sizes.width,
        model_width=sizes.model_width,
        layers=sizes.layers,
        heads=sizes.heads,
        mlp_ratio=sizes.mlp_ratio,
        max_clips=sizes.clips,
        dropout=0.0,
    )
    return _in_jax(model, sizes)


def flax_tower(sizes: Sizes) -> Prepared:
    """Tower of Flax's `nn.MultiHeadDotProductAttention` and plain `nn.Dense`."""
    import flax.linen as nn
    import jax.numpy as jnp

    class Tower(nn.Module):
        @nn.compact
        def __call__(self, clips: Any, train: bool) -> Any:
            x = nn.Dense(sizes.model_width)(clips.features)
            shape = sizes.clips, sizes.model_width
            x = x + self.param("positions", nn.initializers.normal(0.02), shape)[None]
            seen = nn.make_attention_mask(clips.mask, clips.mask)
            for _ in range(sizes.layers):
                x = x + nn.MultiHeadDotProductAttention(sizes.heads)(nn.LayerNorm()(x), mask=seen)
                hidden = nn.Dense(sizes.mlp_ratio * sizes.model_width)(nn.LayerNorm()(x))
                x = x + nn.Dense(sizes.model_width)(nn.gelu(hidden))
            there = clips.mask[:, :, None]
            x = (nn.LayerNorm()(x) * there).sum(1) / there.sum(1)
            x = nn.Dense(sizes.width)(x)
            return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    return _in_jax(Tower(), sizes)


def _in_jax(model: Any, sizes: Sizes) -> Prepared:
    from vmr.encoders.encoder import Clips

    features, mask, slope = _clips_and_slope(sizes)
    clips = Clips(jax.device_put(features), jax.device_put(mask))
    params = jax.jit(lambda key: model.init(key, clips, train=False))(jax.random.key(0))

    @jax.jit
    def gradient(params: Any, clips: Clips) -> Any:
        def loss(params: Any) -> Any:
            return (model.apply(params, clips, train=True) * slope).sum()

        return jax.value_and_grad(loss)(params)

    return Prepared(lambda: jax.block_until_ready(gradient(params, clips)))


def torch_tower(sizes: Sizes) -> Prepared:
    """Tower of torch's `nn.TransformerEncoder`, eager."""
    import torch
    from torch import nn

    gelu = functools.partial(nn.functional.gelu, approximate="tanh")  # as JAX's
    width = sizes.model_width
    layer = nn.TransformerEncoderLayer(
        width, sizes.heads, sizes.mlp_ratio * width, 0.0, gelu, batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(
        layer, sizes.layers, nn.LayerNorm(width), enable_nested_tensor=False
    )
    project, out = nn.Linear(sizes.features, width), nn.Linear(width, sizes.width)
    positions = nn.Parameter(0.02 * torch.randn(sizes.clips, width))
    features, mask, slope = map(torch.from_numpy, _clips_and_slope(sizes))
    parameters = [positions, *(p for part in (encoder, project, out) for p in part.parameters())]

    def step() -> Any:
        x = encoder(project(features) + positions, src_key_padding_mask=~mask)
        there = mask[:, :, None]
        x = out((x * there).sum(1) / there.sum(1))
        loss = (nn.functional.normalize(x) * slope).sum()
        return loss, torch.autograd.grad(loss, parameters)

    return Prepared(step)


def _clips_and_slope(sizes: Sizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clips (B, N, P), a mask (B, N) of half to all of them, a gradient at embeddings (B, D)."""
    random = np.random.default_rng(0)
    shape = sizes.batch, sizes.clips
    lengths = random.integers(max(1, sizes.clips // 2), sizes.clips + 1, size=(sizes.batch, 1))
    clips = random.standard_normal((*shape, sizes.features), np.float32)
    slope = random.standard_normal((sizes.batch, sizes.width), np.float32)
    return clips, np.arange(sizes.clips)[None, :] < lengths, slope


TOWERS: dict[str, Callable[[Sizes], Prepared]] = {
    "ours": our_tower,
    "flax": flax_tower,
    "torch": torch_tower,
}


def define_flags() -> None:
    """Defines the flags of this command; other modules import its functions without them."""
    config_flags.DEFINE_config_file("config", None, "Default: configs/ii_clvm.py.")
    flags.DEFINE_string("data_dir", None, "Its dataset. Default: generated records.")
    flags.DEFINE_integer("records", 600, "Records to generate, 345 kB each.", lower_bound=1)
    flags.DEFINE_integer("steps", 5, "Timed steps of either kind in a round.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Rounds of training.", lower_bound=1)
    flags.DEFINE_float("seconds", 20, "At most, after five rounds, for each peer table.")


if __name__ == "__main__":
    define_flags()
    run(main)
