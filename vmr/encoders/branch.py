"""The branch of VM-NET: a multilayer perceptron, batch normalisation, unit length.

Hong, Im, Yang, "Content-Based Video-Music Retrieval Using Soft Intra-Modal Structure Constraint",
arXiv 1704.06761, ICMR 2018.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.dense import Dense
from vmr.encoders.dropout import RowDropout
from vmr.encoders.encoder import Clips, Encoder, masked_mean, unit_rows

Array = jax.Array

# The hidden widths of the published depth ablation: a branch of depth n takes n from the left.
DEPTH_ABLATION = (2048, 1024, 1024, 512)


def he_truncated(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal with std √(2 / fan_in), truncated at two of these std, not rescaled afterwards.

    `jax.nn.initializers.variance_scaling` corrects the std for the truncation; VM-NET does not.
    """
    fan_in = shape[0]
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * (2.0 / fan_in) ** 0.5


class Branch(Encoder):
    """The mean over the clips, [Dense, ReLU, dropout] for each hidden width, Dense, BatchNorm.

    The published inputs are one vector an item; text is left aside.

    Attributes:
      hidden: widths of the hidden layers.
      width: D, of the embedding.
      dropout: rate after each hidden layer, inverted (kept units are scaled up in training).
      input_dropout: rate on the inputs; the published branches have none.
      linear: leaves every ReLU out, as the released training script does: an ablation.
      batch_norm_decay: decay of the running mean and variance.
      batch_norm_epsilon: added to the variance.
      axis_name: name of the pmapped axis over which a training batch is sharded, so that batch
        normalisation is over the global batch; None for a single device.
    """

    hidden: tuple[int, ...]
    width: int = 512
    dropout: float = 0.1
    input_dropout: float = 0.0
    linear: bool = False
    batch_norm_decay: float = 0.99
    batch_norm_epsilon: float = 1e-3
    axis_name: str | None = None

    def setup(self) -> None:
        """The layers; their names are those of their parameters."""
        self.dense = [
            Dense(width, kernel_init=he_truncated, name=f"Dense_{number}")
            for number, width in enumerate((*self.hidden, self.width))
        ]
        rates = (self.input_dropout, *(self.dropout for _ in self.hidden))
        self.drop = [
            RowDropout(rate, name=f"RowDropout_{number}") for number, rate in enumerate(rates)
        ]
        self.norm = nn.BatchNorm(
            momentum=self.batch_norm_decay,
            epsilon=self.batch_norm_epsilon,
            axis_name=self.axis_name,
            name="BatchNorm_0",
        )

    def trunk(self, inputs: Clips, places: Array, *, train: bool) -> Array:
        """(b, N, P), (b,) -> (b, D): of the mean over the clips."""
        x = masked_mean(inputs.features, inputs.mask)
        x = self.drop[0](x, places, train=train)
        for dense, drop in zip(self.dense, self.drop[1:], strict=False):
            x = dense(x)
            x = x if self.linear else nn.relu(x)
            x = drop(x, places, train=train)
        return self.dense[-1](x)

    def head(self, features: Array, *, train: bool) -> Array:
        """(B, D) -> (B, D) unit rows; `train` needs the mutable `batch_stats`."""
        return unit_rows(self.norm(features, use_running_average=not train))
