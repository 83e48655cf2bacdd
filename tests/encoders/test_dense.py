"""The dense layer's product over more than one leading axis, with its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from vmr.encoders.layers import Dense


def test_matches_the_plain_product_and_its_gradient() -> None:
    generator = np.random.default_rng(0)
    x, kernel = generator.normal(size=(3, 4, 5)), generator.normal(size=(5, 2))
    slopes = generator.normal(size=(3, 4, 2))
    layer = Dense(2, use_bias=False)

    def total(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(layer.apply({"params": {"kernel": kernel}}, x) * slopes)

    np.testing.assert_allclose(total(x, kernel), np.sum((x @ kernel) * slopes), rtol=1e-5)
    at_x, at_kernel = jax.grad(total, argnums=(0, 1))(x, kernel)
    np.testing.assert_allclose(at_x, slopes @ kernel.T, atol=1e-5)
    np.testing.assert_allclose(at_kernel, np.einsum("bnp,bnf->pf", x, slopes), atol=1e-5)
