"""Training step and embedding step: pure functions, pmapped by `vmr.training.devices`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vmr.encoders.encoder import Clips, masked_mean
from vmr.encoders.two_tower import TwoTower
from vmr.losses.learnable import as_options, bounded
from vmr.losses.objective import Objective
from vmr.losses.pairs import INTRA_TERMS, Pairs, global_rows
from vmr.training.augment import mixed_pairs, noisy_pairs
from vmr.training.grad_cache import vjp_in_microbatches
from vmr.training.inputs import model_inputs, side_inputs
from vmr.training.state import Trained, TrainState

Array = jax.Array


def train_step(
    state: TrainState,
    batch: dict[str, Array],
    weights: dict[str, Array],
    *,
    logs: bool = True,
    model: TwoTower,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    average_decay: float = 0.0,
    warmup_steps: int = 0,
    microbatch: int | None = None,
    noise: float = 0.0,
    mixup: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """Takes one training step on the global batch.

    The gradient of the loss is taken at the embeddings, then pulled back once through the encoders.

    Args:
      state: state before the step.
      batch: this device's rows, see `vmr.training.inputs`, and `track` (n,) int, their positive
        ids: pairs of equal `track` are positives of each other. Optionally `video_teacher` and
        `music_teacher` (n, T), a teacher's embeddings.
      weights: scalar weights of the terms m2v, v2m, music, video.
      logs: True adds the norms of the parameters and of each term's gradient. Static, hence two
        programs: a condition inside one would make XLA on a GPU wait for the host at every step.
      model: two-tower model; its batch normalisation must have the same `axis_name`.
      objective: losses of the four terms.
      optimizer: optimiser whose state is in `state`.
      average_decay: decay of the moving average of the parameters, if the state has one.
      warmup_steps: number of steps in which the weights of the intra-modal terms rise from 0.
      microbatch: rows of this device that pass the encoders at a time; None passes all at once.
      noise: standard deviation of noise added to the standardised inputs; 0 adds none.
      mixup: α of the Beta distribution by which pairs are mixed; 0 mixes none.
      axis_name: pmapped axis that shards the batch; None for a single device.

    Returns:
      The state after the step, and scalars to log (the same on every device).
    """
    params, learnt = _towers_and_learnt(state.params)
    video, music = model_inputs(batch, state.standardization)
    key = jax.random.fold_in(state.key, state.step)
    rngs = {"dropout": key}
    numbers = global_rows(batch["track"].size, axis_name)
    if mixup:
        video, music = mixed_pairs(video, music, numbers, alpha=mixup, key=key, axis_name=axis_name)

    def trunks(params: optax.Params, rows: tuple[Clips, Clips, Array]) -> Any:
        if noise:
            rows = *noisy_pairs(*rows, std=noise, key=key), rows[2]
        return model.apply({"params": params}, *rows, train=True, rngs=rngs, method="trunks")

    def heads(params: optax.Params, features: Any) -> tuple[Any, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        embeddings, updated = model.apply(
            variables, *features, train=True, method="heads", mutable=["batch_stats"]
        )
        return embeddings, updated.get("batch_stats", {})

    rows = video, music, numbers
    features, pull_trunks = vjp_in_microbatches(trunks, params, rows, microbatch)
    embeddings, pull_heads, batch_stats = jax.vjp(heads, params, features, has_aux=True)
    # Intra-modal losses compare embeddings with inputs: of a sequence, the mean over its clips. A
    # mixture is an item of its own; noise, as dropout, is not part of what an item is.
    inputs = [masked_mean(clips.features, clips.mask) for clips in (video, music)]
    pairs = Pairs(
        embeddings[0],
        embeddings[1],
        inputs[0],
        inputs[1],
        batch["track"],
        video_teacher=batch.get("video_teacher"),
        music_teacher=batch.get("music_teacher"),
    )
    weights = _warmed_up(weights, state.step, warmup_steps)
    found = objective.value_and_gradient(pairs, weights, learnt, axis_name)

    to_params, to_features = pull_heads((found.gradient["video"], found.gradient["music"]))
    gradients = jax.tree.map(jnp.add, to_params, pull_trunks(to_features))
    # Summed, not averaged: every device has the gradient of the global loss at its own rows. That
    # of the learnt parameters is summed already.
    if axis_name is not None:
        gradients = jax.lax.psum(gradients, axis_name)
    gradients |= {"loss": found.to_learnt} if learnt else {}
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    params |= {"loss": bounded(params["loss"])} if learnt else {}

    scalars = {"loss": found.loss, "gradient_norm": optax.tree.norm(gradients)}
    scalars |= {f"term/{term}": value for term, value in found.terms.items()}
    scalars |= {f"learnt/{name}": value for name, value in as_options(learnt).items()}
    if logs:
        # The barrier keeps XLA from fusing the norms with the step: a logged step's state is that
        # of an unlogged one to the bit, so that how often a run is logged changes no number.
        seen = jax.lax.optimization_barrier((found, pairs, params))
        of_terms = objective.gradient_norms(seen[0], seen[1], learnt, axis_name)
        scalars |= _norms(of_terms, seen[2])
    state = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=_averaged(state, params, average_decay),
    )
    return state, scalars


def embed_step(
    trained: Trained, batch: dict[str, Array], *, model: TwoTower
) -> tuple[Array, Array]:
    """Unit embeddings of a batch, see `vmr.training.inputs`: video (n, D) and music (n, D)."""
    embeddings: Any = model.apply(
        {"params": trained.params, "batch_stats": trained.batch_stats},
        *model_inputs(batch, trained.standardization),
        train=False,
    )
    return embeddings


def embed_side_step(
    trained: Trained, batch: dict[str, Array], *, model: TwoTower, side: str
) -> Array:
    """Unit embeddings (n, D) of one modality, `video` or `music`, from a batch that holds it."""
    embeddings: Any = model.apply(
        {"params": trained.params, "batch_stats": trained.batch_stats},
        side_inputs(batch, side, trained.standardization),
        method=f"embed_{side}",
    )
    return embeddings


def _averaged(state: TrainState, params: optax.Params, decay: float) -> optax.Params:
    """Moving average of the parameters after a step."""
    if not state.average:
        return state.average
    # Early steps weigh more, so that the average soon leaves the random start: the decay is
    # min(decay, (1 + step) / (10 + step)), as TensorFlow's ExponentialMovingAverage has it.
    step_size = jnp.maximum(1.0 - decay, 9.0 / (10.0 + state.step))
    return optax.incremental_update(params, state.average, step_size)


def _norms(of_terms: Mapping[str, Array], params: Mapping[str, Any]) -> dict[str, Array]:
    """Scalars to log: norms of the terms' gradients and of each tower's parameters."""
    towers, _ = _towers_and_learnt(params)
    return {
        **{f"term_gradient_norm/{term}": norm for term, norm in of_terms.items()},
        **{f"parameter_norm/{side}": optax.tree.norm(tree) for side, tree in towers.items()},
    }


def _towers_and_learnt(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Separates the encoders' parameters from those of the loss, which may be none."""
    towers = dict(params)
    return towers, towers.pop("loss", {})


def _warmed_up(weights: Mapping[str, Array], step: Array, warmup_steps: int) -> dict[str, Array]:
    """Weights at a step: those of the intra-modal terms rise linearly from 0 at the first."""
    if not warmup_steps:
        return dict(weights)
    share = jnp.minimum(1.0, step / warmup_steps)
    return {
        term: weight * share if term in INTRA_TERMS else weight for term, weight in weights.items()
    }
