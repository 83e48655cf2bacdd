"""State of a training run: everything that a step reads and writes."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vmr.encoders.encoder import Clips, Tokens
from vmr.encoders.two_tower import TwoTower
from vmr.training.inputs import Standardization

Array = jax.Array


@flax.struct.dataclass
class Trained:
    """Part of a run's state on which its embeddings depend.

    Attributes:
      params: parameters of both towers.
      batch_stats: running mean and variance of batch normalisation.
      standardization: mean and scale of the inputs per dimension, from the training split.
    """

    params: Any
    batch_stats: Any
    standardization: Standardization


@flax.struct.dataclass
class TrainState:
    """Everything that a resumed run needs to go on to the bit.

    Replicated over the devices without an axis for them; a grid stacks its runs' states, each leaf
    (S, W, ...). The names of these fields are on disk, in every checkpoint.

    Attributes:
      step: () int32, number of steps taken.
      params: parameters of both towers, and of the loss if it learns any.
      batch_stats: running mean and variance of batch normalisation.
      opt_state: state of the optimiser.
      average: moving average of `params`, evaluated in their stead; empty if there is none.
      standardization: mean and scale of the inputs per dimension, from the training split.
      key: (2,) uint32, random key of the run; a step folds its number into it.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    average: Any
    standardization: Standardization
    key: Array

    @property
    def trained(self) -> Trained:
        """Part that embeds: averaged parameters if there are any, without those of the loss."""
        params = dict(self.average or self.params)
        params.pop("loss", None)
        return Trained(params, self.batch_stats, self.standardization)

    if TYPE_CHECKING:  # flax adds it where type checkers do not see

        def replace(self, **changes: Any) -> "TrainState":
            """Copy with some fields changed."""


def initial_state(
    model: TwoTower,
    optimizer: optax.GradientTransformation,
    standardization: Mapping[str, Mapping[str, Array | np.ndarray]],
    seed: int,
    averaged: bool = False,
    learnt: Mapping[str, Array] | None = None,
    text: Tokens | None = None,
) -> TrainState:
    """State before the first step; its inputs have the widths of `standardization`.

    Args:
      model: two-tower model.
      optimizer: optimiser of the run.
      standardization: statistics of the inputs, per dimension.
      seed: seed of the initial parameters and of every step's dropout.
      averaged: True keeps a moving average of the parameters.
      learnt: parameters of the loss before the first step, if it learns any.
      text: dummy text of one item, in the shapes that the video encoder reads; None if it reads
        none.
    """
    key = jax.random.PRNGKey(seed)
    init_key, run_key = jax.random.split(key)
    statistics: Standardization = {
        side: {name: jnp.asarray(values) for name, values in of_side.items()}
        for side, of_side in standardization.items()
    }
    means = (statistics[side]["mean"] for side in ("video", "music"))
    video, music = (Clips(mean[None, None, :], jnp.ones((1, 1), bool)) for mean in means)
    video = video._replace(text=text)
    # Compiled as a whole: outside `jit`, every small operation of `init` would be compiled alone.
    variables = jax.jit(model.init, static_argnames="train")(init_key, video, music, train=False)
    params = {**variables["params"], **({"loss": dict(learnt)} if learnt else {})}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=jax.jit(optimizer.init)(params),
        # A copy: a step that donates the state would give one buffer away twice.
        average=jax.tree.map(jnp.copy, params) if averaged else {},
        standardization=statistics,
        key=run_key,
    )


def placeholder_standardization(widths: Mapping[str, int]) -> Standardization:
    """Identity statistics of the given widths, for the shapes of a state to be restored.

    Args:
      widths: feature widths of `video` and of `music`.
    """
    return {
        side: {"mean": jnp.zeros(width), "scale": jnp.ones(width)} for side, width in widths.items()
    }
