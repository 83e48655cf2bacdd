"""The branch of VM-NET: a multilayer perceptron, batch normalisation, unit length.

Hong, Im, Yang, "Content-Based Video-Music Retrieval Using Soft Intra-Modal Structure Constraint",
arXiv 1704.06761, ICMR 2018.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vmr.encoders.dense import dense_product
from vmr.encoders.dropout import RowDropout

Array = jax.Array

# The hidden widths of the published depth ablation: a branch of depth n takes n from the left.
DEPTH_ABLATION = (2048, 1024, 1024, 512)


def he_truncated(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal with std √(2 / fan_in), truncated at two of these std, not rescaled afterwards.

    `jax.nn.initializers.variance_scaling` corrects the std for the truncation; VM-NET does not.
    """
    fan_in = shape[0]
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * (2.0 / fan_in) ** 0.5


class Branch(nn.Module):
    """(B, P) -> (B, D) unit rows: [Dense, ReLU, dropout] for each hidden width, Dense, BatchNorm.

    Attributes:
      hidden: widths of the hidden layers.
      width: D, of the embedding.
      dropout: rate after each hidden layer, inverted (kept units are scaled up in training).
      input_dropout: rate on the inputs; the published branches have none.
      linear: leaves every ReLU out, as the released training script does: an ablation.
      batch_norm_decay: of the running mean and variance.
      batch_norm_epsilon: added to the variance.
      axis_name: of the pmapped axis over which a training batch is sharded, so that batch
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
            nn.Dense(
                width, kernel_init=he_truncated, dot_general=dense_product, name=f"Dense_{number}"
            )
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

    def __call__(self, inputs: Array, *, train: bool) -> Array:
        """Embeds a whole batch; `train` needs the rng `dropout` and the mutable `batch_stats`."""
        return self.head(self.trunk(inputs, jnp.arange(len(inputs)), train=train), train=train)

    def trunk(self, inputs: Array, places: Array, *, train: bool) -> Array:
        """(b, P), (b,) -> (b, D): each row by itself; `places` says where it stands in the batch.

        So a batch may pass in pieces.
        """
        x = self.drop[0](inputs, places, train=train)
        for dense, drop in zip(self.dense, self.drop[1:], strict=False):
            x = dense(x)
            x = x if self.linear else nn.relu(x)
            x = drop(x, places, train=train)
        return self.dense[-1](x)

    def head(self, features: Array, *, train: bool) -> Array:
        """(B, D) -> (B, D) unit rows: what needs the whole batch at once."""
        return unit_rows(self.norm(features, use_running_average=not train))


def unit_rows(x: Array) -> Array:
    """(B, D) -> (B, D): rows of length 1; a zero row stays zero and has a finite gradient."""
    return x / optax.safe_norm(x, 1e-6, axis=-1, keepdims=True)
