"""Branch of VM-NET: a multilayer perceptron, batch normalisation, unit length.

Hong, Im, Yang, "Content-Based Video-Music Retrieval Using Soft Intra-Modal Structure Constraint",
arXiv 1704.06761, ICMR 2018.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.encoder import Clips, Encoder, masked_mean, unit_rows
from vmr.encoders.layers import Dense, RowDropout

Array = jax.Array

# Hidden widths of the published depth ablation: a branch of depth n has the first n.
DEPTH_ABLATION = (2048, 1024, 1024, 512)


def he_truncated(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal initialiser with std √(2 / fan_in), truncated at two of these std, not rescaled.

    `jax.nn.initializers.variance_scaling` corrects the std for the truncation; VM-NET does not.
    """
    fan_in = shape[0]
    return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype) * (2.0 / fan_in) ** 0.5


class Branch(Encoder):
    """Mean over the clips, then [Dense, ReLU, dropout] for each hidden width, Dense, BatchNorm.

    The published inputs are one vector an item. Text is ignored. The published branches have no
    residual, which is ours: ``x ↦ norm(MLP(x) + W x)``, a linear projection for the layers to
    correct, as the projected shortcut of He et al. 2016 (arXiv 1512.03385) around all of them.

    Attributes:
      hidden: widths of the hidden layers.
      width: D, width of the embedding.
      dropout: dropout rate after each hidden layer.
      input_dropout: dropout rate of the inputs; the published branches have none.
      linear: True leaves every ReLU out, as the released training script does: an ablation.
      residual: True adds a learnt linear map W of the inputs, dropped out as the first layer sees
        them, to the last layer's output, before batch normalisation.
      batch_norm_decay: decay of the running mean and variance.
      batch_norm_epsilon: constant added to the variance.
      axis_name: pmapped axis that shards a training batch, whose statistics are then those of the
        global batch; None for a single device.
    """

    hidden: tuple[int, ...]
    width: int = 512
    dropout: float = 0.1
    input_dropout: float = 0.0
    linear: bool = False
    residual: bool = False
    batch_norm_decay: float = 0.99
    batch_norm_epsilon: float = 1e-3
    axis_name: str | None = None

    def setup(self) -> None:
        """Creates the layers."""
        # The names are those of the parameters in every checkpoint.
        self.dense = [
            Dense(width, kernel_init=he_truncated, name=f"Dense_{number}")
            for number, width in enumerate((*self.hidden, self.width))
        ]
        if self.residual:  # no bias: the last layer has one
            self.skip = Dense(
                self.width, use_bias=False, kernel_init=he_truncated, name="Dense_residual"
            )
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

    def trunk(self, inputs: Clips, rows: Array, *, train: bool) -> Array:
        """Everything up to batch normalisation: (b, N, P), (b,) -> (b, D)."""
        x = masked_mean(inputs.features, inputs.mask)
        x = dropped_out = self.drop[0](x, rows, train=train)
        # One Dense more than dropouts: the last one gives the embedding.
        for dense, drop in zip(self.dense, self.drop[1:], strict=False):
            x = dense(x)
            x = x if self.linear else nn.relu(x)
            x = drop(x, rows, train=train)
        x = self.dense[-1](x)
        return x + self.skip(dropped_out) if self.residual else x

    def head(self, features: Array, *, train: bool) -> Array:
        """Batch normalisation and unit length, (B, D) -> (B, D); `train` updates `batch_stats`."""
        return unit_rows(self.norm(features, use_running_average=not train))
