"""Pooling of a sequence's tokens into one vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.encoder import masked_mean, zero_absent

Array = jax.Array

POOLINGS = ("mean", "attention", "cls")


class Pooling(nn.Module):
    """(b, T, M), (b, T) -> (b, M): over the tokens that are there; zeros if none is.

    Attributes:
      kind: `mean`; `attention`, whose weights are learnt; `cls`, which takes the last token alone,
        that of `ClassToken`.
    """

    kind: str

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        """Tokens that are not there have no influence."""
        if self.kind == "cls":
            return tokens[:, -1]
        if self.kind == "attention":
            return AttentionPooling(name="attention")(tokens, mask)
        return masked_mean(tokens, mask)


class AttentionPooling(nn.Module):
    """Σ_t softmax_t(query · x_t) x_t with a learnt query.

    Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016, without
    their hidden layer. The query starts at zero: as the mean.
    """

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        """(b, T, M), (b, T) -> (b, M)."""
        query = self.param("query", nn.initializers.zeros, (tokens.shape[-1],))
        tokens = zero_absent(tokens, mask)
        scores = jnp.where(mask, tokens @ query, jnp.finfo(tokens.dtype).min)
        return jnp.einsum("bt,btm->bm", jax.nn.softmax(scores, axis=1), tokens)


class ClassToken(nn.Module):
    """Appends a learnt token that every sequence has: (b, T, M), (b, T) -> one token more.

    As BERT's, Devlin et al. 2019 (arXiv 1810.04805), but last, so that clips keep their places.
    """

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """The tokens and the mask, both with it."""
        batch, _, width = tokens.shape
        token = self.param("token", nn.initializers.normal(0.02), (width,))
        token = jnp.broadcast_to(token, (batch, 1, width)).astype(tokens.dtype)
        there = jnp.ones((batch, 1), bool)
        return jnp.concatenate([tokens, token], 1), jnp.concatenate([mask, there], 1)
