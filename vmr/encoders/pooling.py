"""Pooling of a sequence's tokens into one vector."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.encoder import masked_mean, zero_absent

Array = jax.Array

POOLINGS = ("mean", "attention", "cls")


class Pooling(nn.Module):
    """Pooling over the tokens that are there, zeros if there is none: (b, T, M), (b, T) -> (b, M).

    Attributes:
      kind: `mean`; `attention`, with learnt weights; `cls`, the last token, that of `ClassToken`.
    """

    kind: str

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        """Pools tokens; padding has no influence."""
        if self.kind == "cls":
            return tokens[:, -1]
        if self.kind == "attention":
            return AttentionPooling(name="attention")(tokens, mask)
        return masked_mean(tokens, mask)


class AttentionPooling(nn.Module):
    """Attention pooling Σ_t softmax_t(query · x_t) x_t with a learnt query.

    Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016, without
    their hidden layer. The query starts at zero, which makes it the mean.
    """

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> Array:
        """Pools tokens: (b, T, M), (b, T) -> (b, M)."""
        query = self.param("query", nn.initializers.zeros, (tokens.shape[-1],))
        tokens = zero_absent(tokens, mask)
        # The least finite number rather than −inf: a softmax over −inf alone is NaN.
        scores = jnp.where(mask, tokens @ query, jnp.finfo(tokens.dtype).min)
        return jnp.einsum("bt,btm->bm", jax.nn.softmax(scores, axis=1), tokens)


class ClassToken(nn.Module):
    """Appends one learnt token to every sequence: (b, T, M), (b, T) -> (b, T+1, M), (b, T+1).

    The class token of BERT, Devlin et al. 2019 (arXiv 1810.04805), but last: clips stay in front.
    """

    @nn.compact
    def __call__(self, tokens: Array, mask: Array) -> tuple[Array, Array]:
        """Appends the token, and True to the mask."""
        batch, _, width = tokens.shape
        token = self.param("token", nn.initializers.normal(0.02), (width,))
        token = jnp.broadcast_to(token, (batch, 1, width)).astype(tokens.dtype)
        present = jnp.ones((batch, 1), bool)
        return jnp.concatenate([tokens, token], 1), jnp.concatenate([mask, present], 1)
