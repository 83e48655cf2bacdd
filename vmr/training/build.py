"""Builders of a run's parts from its config: model, objective, optimiser, first state, step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from vmr.encoders.branch import Branch
from vmr.encoders.encoder import Encoder, Tokens
from vmr.encoders.gated_conv import GatedConv
from vmr.encoders.text import GatedText
from vmr.encoders.transformer import Transformer
from vmr.encoders.two_tower import TwoTower
from vmr.losses import inter, intra
from vmr.losses.learnable import initial
from vmr.losses.objective import Objective
from vmr.losses.pairs import SIDES
from vmr.training.state import TrainState, initial_state, placeholder_standardization
from vmr.training.step import train_step

Loss = Callable[..., Any]
Options = dict[str, Any]

INTER: dict[str, Loss] = {
    "ranking": inter.ranking,
    "infonce": inter.infonce,
    "siglip": inter.siglip,
    "crossclr": inter.crossclr,
    "distillation": inter.distillation,
}
INTRA: dict[str, Loss] = {
    "structure": intra.structure,
    "structure_adjacent": intra.structure_adjacent,
    "ii_mse": intra.ii_mse,
    "ii_kl": intra.ii_kl,
    "gram": intra.gram,
    "rkd_distance": intra.rkd_distance,
    "js": intra.js,
}
SIMILARITY_DTYPES = {"float32": None, "bfloat16": jnp.bfloat16}  # None: as the embeddings are
# Cases of `_encoder`; `vmr.training.config` holds the ranges of their options.
FUSIONS = ("none", "gated_sum", "tokens")


def build_model(config: ml_collections.ConfigDict, axis_name: str | None = None) -> TwoTower:
    """Two-tower model of `config.model`; one encoder for both sides if items pair with themselves.

    Args:
      config: config of a run.
      axis_name: pmapped axis that shards a training batch; None for a single device.
    """
    if config.pairing != "video_music":
        encoder = _encoder(config.model, config.pairing, axis_name)
        return TwoTower(encoder, encoder)
    video, music = (_encoder(config.model, side, axis_name) for side in ("video", "music"))
    text = config.model.text
    if text.fusion == "gated_sum":
        video = GatedText(video, text.width, _vocabulary(text), text.dropout)
    return TwoTower(video, music)


def _encoder(model: ml_collections.ConfigDict, side: str, axis_name: str | None) -> Encoder:
    shared = {
        "width": model.embedding_width,
        "dropout": model.dropout,
        "input_dropout": model.input_dropout,
    }
    return ENCODERS[model[side].encoder](model, side, shared, axis_name)


def _branch(
    model: ml_collections.ConfigDict, side: str, shared: Options, axis_name: str | None
) -> Encoder:
    return Branch(
        hidden=tuple(model[side].hidden),
        linear=model.linear,
        residual=model.residual,
        batch_norm_decay=model.batch_norm.decay,
        batch_norm_epsilon=model.batch_norm.epsilon,
        axis_name=axis_name,
        **shared,
    )


def _transformer(
    model: ml_collections.ConfigDict, side: str, shared: Options, _: str | None
) -> Encoder:
    if side == "video" and model.text.fusion == "tokens":
        shared |= {"text_tokens": True, "vocabulary": _vocabulary(model.text)}
        shared |= {"token_dropout": model.text.dropout}
    return Transformer(**model.transformer, **shared)


def _gated_conv(
    model: ml_collections.ConfigDict, side: str, shared: Options, _: str | None
) -> Encoder:
    return GatedConv(**model.gated_conv, **shared)


ENCODERS = {"branch": _branch, "transformer": _transformer, "gated_conv": _gated_conv}


def _vocabulary(text: ml_collections.ConfigDict) -> int:
    """Number of buckets that words are hashed into; 0 if the text is precomputed embeddings."""
    return 0 if text.embedding_width else text.vocabulary


def _text_of_one_item(text: ml_collections.ConfigDict) -> Tokens | None:
    """Dummy text of one item, as the video encoder reads it; None if it reads none."""
    if text.fusion == "none":
        return None
    width = text.embedding_width
    values = jnp.zeros((1, 1, width)) if width else jnp.zeros((1, 1), jnp.int32)
    return Tokens(values, jnp.ones((1, 1), bool))


def build_objective(config: ml_collections.ConfigDict) -> Objective:
    """Objective of the losses that `config.loss` names, with their options bound."""
    loss = config.loss
    return Objective(
        inter=functools.partial(INTER[loss.inter], **_options(loss, loss.inter)),
        intra=(
            None
            if loss.intra == "none"
            else functools.partial(INTRA[loss.intra], **_options(loss, loss.intra))
        ),
        block_rows=loss.block_rows or None,
        similarity_dtype=SIMILARITY_DTYPES[loss.similarity_dtype],
    )


def _options(loss: ml_collections.ConfigDict, name: str) -> dict[str, Any]:
    """Options of the named loss, from `config.loss.<name>` if it has any."""
    return {option: value for option, value in loss.get(name, {}).items() if option != "learnt"}


def _learnt(loss: ml_collections.ConfigDict) -> dict[str, jnp.ndarray]:
    """Learnt parameters of the inter-modal loss before the first step; empty if it learns none."""
    if not loss.get(loss.inter, {}).get("learnt", False):
        return {}
    return initial(loss.inter, _options(loss, loss.inter))


def build_state(
    config: ml_collections.ConfigDict,
    standardization: Mapping[str, Mapping[str, jax.Array | np.ndarray]],
) -> TrainState:
    """State before the first step; the statistics of the inputs also give their widths."""
    return initial_state(
        build_model(config),
        build_optimizer(config),
        standardization,
        config.seed,
        averaged=config.optimizer.average_decay > 0,
        learnt=_learnt(config.loss),
        text=_text_of_one_item(config.model.text),
    )


def abstract_state(config: ml_collections.ConfigDict, widths: Mapping[str, int]) -> TrainState:
    """Shapes and dtypes of a run's state, to restore one into; nothing is computed.

    Args:
      config: config of the run.
      widths: feature widths of `video` and of `music`.
    """
    standardization = placeholder_standardization(widths)
    return jax.eval_shape(lambda: build_state(config, standardization))


def build_step(
    config: ml_collections.ConfigDict,
    device_count: int = 1,
    axis_name: str | None = None,
    learning_rate: jax.Array | None = None,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Step of a config: `(state, batch, weights, logs=, axis_name=) -> (state, scalars)`.

    Args:
      config: config of a run.
      device_count: number of devices that share a batch.
      axis_name: pmapped axis of batch normalisation, which the step must be given too; None for a
        single device.
      learning_rate: scalar () in place of the config's, where one program serves several.
    """
    return functools.partial(
        train_step,
        model=build_model(config, axis_name),
        objective=build_objective(config),
        optimizer=build_optimizer(config, learning_rate),
        average_decay=config.optimizer.average_decay,
        warmup_steps=config.loss.warmup_steps,
        microbatch=config.microbatch // device_count or None,
        noise=config.augment.noise,
        mixup=config.augment.mixup,
    )


def build_weights(config: ml_collections.ConfigDict) -> dict[str, jnp.ndarray]:
    """Weights of the four terms, as arrays, so that one compiled step serves every weighting."""
    return {term: jnp.float32(config.loss.weights[term]) for term in SIDES}


def build_optimizer(
    config: ml_collections.ConfigDict, learning_rate: jax.Array | None = None
) -> optax.GradientTransformation:
    """AdamW, with decoupled weight decay on the kernels, a schedule and gradient clipping.

    Args:
      config: config of a run.
      learning_rate: scalar () in place of the config's.
    """
    optimizer = config.optimizer
    # float32 from either source: a run alone takes the steps that it takes in a grid, to the bit.
    peak = jnp.float32(optimizer.learning_rate) if learning_rate is None else learning_rate
    schedule = _schedule(optimizer, config.steps)
    adam = optax.adamw(
        lambda step: peak * schedule(step),
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
    """Mask of the parameters that decay: matrices, not biases, scales and shifts."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _schedule(optimizer: ml_collections.ConfigDict, steps: int) -> optax.Schedule:
    """Learning rate as a share of its peak, from the number of the step."""
    warmup = optimizer.warmup_steps
    if optimizer.schedule == "constant":
        if not warmup:
            return optax.schedules.constant_schedule(1.0)
        return optax.schedules.warmup_constant_schedule(0.0, 1.0, warmup)
    return optax.schedules.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(steps, 1))
