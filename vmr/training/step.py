"""One training step and one embedding step: pure, top-level, `pmap`ped elsewhere."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vmr.encoders.two_tower import TwoTower
from vmr.losses.objective import Objective, Pairs, Term, weighted
from vmr.training.state import TrainState, standardized

Array = jax.Array


def train_step(
    state: TrainState,
    batch: dict[str, Array],
    weights: dict[str, Array],
    *,
    model: TwoTower,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    average_decay: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One step on the global batch.

    The losses' gradients are taken at the embeddings, each term's by itself; their weighted sum
    then goes once through the encoders.

    Args:
      state: before the step.
      batch: this device's rows: video (n, P), music (n, Q), track (n,) int.
      weights: one scalar a term: m2v, v2m, music, video.
      model: the two towers; its batch normalisation must know the same `axis_name`.
      objective: the losses.
      optimizer: whose state stands in `state`.
      average_decay: of the moving average of the parameters, where the state has one.
      axis_name: the pmapped axis that shards the batch; None for a single device.

    Returns:
      The state after the step, and scalars to log (the same on every device).
    """
    video = standardized(batch["video"], state.standardization["video"])
    music = standardized(batch["music"], state.standardization["music"])

    def encode(params: optax.Params) -> tuple[tuple[Array, Array], optax.Params]:
        embeddings, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            video,
            music,
            train=True,
            rngs={"dropout": jax.random.fold_in(state.key, state.step)},
            mutable=["batch_stats"],
        )
        return embeddings, updated.get("batch_stats", {})

    embeddings, pull_back, batch_stats = jax.vjp(encode, state.params, has_aux=True)
    pairs = Pairs(*embeddings, video_inputs=video, music_inputs=music, track=batch["track"])
    terms = objective.values_and_gradients(pairs, axis_name)
    loss, gradient = weighted(terms, weights)

    (gradients,) = pull_back((gradient["video"], gradient["music"]))
    if axis_name is not None:
        gradients = jax.lax.psum(gradients, axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)

    scalars = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
    for tower, parameters in params.items():
        scalars[f"parameter_norm/{tower}"] = optax.tree.norm(parameters)
    scalars |= _term_scalars(terms, axis_name)
    state = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=_averaged(state, params, average_decay),
    )
    return state, scalars


def embed_step(
    state: TrainState, batch: dict[str, Array], *, model: TwoTower
) -> tuple[Array, Array]:
    """Unit embeddings of a batch: video (n, P), music (n, Q) -> (n, D), (n, D)."""
    embeddings: Any = model.apply(
        {"params": state.evaluated_params, "batch_stats": state.batch_stats},
        standardized(batch["video"], state.standardization["video"]),
        standardized(batch["music"], state.standardization["music"]),
        train=False,
    )
    return embeddings


def _averaged(state: TrainState, params: optax.Params, decay: float) -> optax.Params:
    """The moving average one step on; early steps weigh more, so that it soon leaves the start."""
    if not state.average:
        return state.average
    step_size = jnp.maximum(1.0 - decay, 9.0 / (10.0 + state.step))
    return optax.incremental_update(params, state.average, step_size)


def _term_scalars(terms: dict[str, Term], axis_name: str | None) -> dict[str, Array]:
    """Each term's value, unweighted, and the norm of its gradient at the embeddings."""
    scalars = {}
    for name, term in terms.items():
        squared = sum(jnp.sum(jnp.square(part)) for part in term.gradient.values())
        if axis_name is not None:
            squared = jax.lax.psum(squared, axis_name)
        scalars[f"term/{name}"] = term.value
        scalars[f"term_gradient_norm/{name}"] = jnp.sqrt(squared)
    return scalars
