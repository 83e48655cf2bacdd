"""From a config to the parts of a run: the model, the objective, the optimiser."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from vmr.encoders.branch import Branch
from vmr.encoders.two_tower import TwoTower
from vmr.losses import inter, intra
from vmr.losses.objective import SIDES, Objective
from vmr.losses.ranks import preferred_block_rows

INTER = {"ranking": inter.ranking}
INTRA = {"structure": intra.structure, "structure_adjacent": intra.structure_adjacent}


def build_model(config: ml_collections.ConfigDict, axis_name: str | None = None) -> TwoTower:
    """The two towers of `config.model`."""
    model = config.model
    shared = {
        "width": model.embedding_width,
        "dropout": model.dropout,
        "input_dropout": model.input_dropout,
        "linear": model.linear,
        "batch_norm_decay": model.batch_norm.decay,
        "batch_norm_epsilon": model.batch_norm.epsilon,
        "axis_name": axis_name,
    }
    return TwoTower(
        video_encoder=Branch(hidden=tuple(model.video.hidden), **shared),
        music_encoder=Branch(hidden=tuple(model.music.hidden), **shared),
    )


def build_objective(config: ml_collections.ConfigDict) -> Objective:
    """The losses that `config.loss` names, their options bound."""
    loss = config.loss
    return Objective(
        inter=_bound(INTER, loss, loss.inter),
        intra=None if loss.intra == "none" else _bound(INTRA, loss, loss.intra),
        block_rows=loss.block_rows or _fastest_block_rows(loss.intra, config.batch_size),
    )


def _fastest_block_rows(intra_name: str, batch_size: int) -> int | None:
    """The sorting network of `structure` is fastest while a block stays in a CPU's cache."""
    if intra_name == "structure" and jax.default_backend() == "cpu":
        return preferred_block_rows(batch_size)
    return None


def _bound(losses: dict[str, Any], config: ml_collections.ConfigDict, name: str) -> Any:
    """The loss of this name with the options of its field, `config.loss.<name>`, if any."""
    return functools.partial(losses[name], **config.get(name, {}))


def build_weights(config: ml_collections.ConfigDict) -> dict[str, jnp.ndarray]:
    """The four weights as arrays, so that one compiled step serves every weighting."""
    return {term: jnp.float32(config.loss.weights[term]) for term in SIDES}


def build_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Adam, with decoupled weight decay on the kernels, a schedule and gradient clipping."""
    optimizer = config.optimizer
    adam = optax.adamw(
        _schedule(optimizer, config.steps),
        b1=optimizer.b1,
        b2=optimizer.b2,
        eps=optimizer.epsilon,
        weight_decay=optimizer.weight_decay,
        mask=_kernels,
    )
    if not optimizer.clip_norm:
        return adam
    return optax.chain(optax.clip_by_global_norm(optimizer.clip_norm), adam)


def _kernels(params: optax.Params) -> Any:
    """True for matrices: neither biases nor the scale and shift of batch normalisation decay."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _schedule(optimizer: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    if optimizer.schedule == "constant":
        return optax.schedules.constant_schedule(optimizer.learning_rate)
    return optax.schedules.warmup_cosine_decay_schedule(
        0.0, optimizer.learning_rate, optimizer.warmup_steps, max(steps, 1)
    )
