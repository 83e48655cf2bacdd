"""Encoders of the text that comes with a video, and its fusion with the video's features."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.encoder import Clips, Encoder, Tokens, masked_mean, zero_absent
from vmr.encoders.layers import Dense, RowDropout

Array = jax.Array


class TokenVectors(nn.Module):
    """Vectors of the tokens, of one scale for ids and embeddings: (b, L) or (b, L, E) -> (b, L, M).

    Attributes:
      width: M, width of a token's vector.
      vocabulary: number of buckets of the int ids; 0 for float embeddings.
    """

    width: int
    vocabulary: int = 0

    @nn.compact
    def __call__(self, text: Tokens) -> Array:
        """Embeds or projects the tokens; the values of padding have no influence."""
        is_ids = jnp.issubdtype(text.values.dtype, jnp.integer)
        if is_ids != bool(self.vocabulary):
            kind = "ids" if is_ids else "embeddings"
            raise ValueError(f"the text is {kind}, but the vocabulary is {self.vocabulary}")
        if is_ids:
            # Flax gives NaN for ids beyond the vocabulary, which rightly stops a run. Padding may
            # hold any id, so it is set to a valid one.
            ids = jnp.where(text.mask, text.values, 0)
            words = nn.Embed(
                self.vocabulary,
                self.width,
                embedding_init=nn.initializers.normal(1.0),  # the scale of normalised embeddings
                name="embed",
            )
            return words(ids)
        normal = nn.LayerNorm(name="norm")(zero_absent(text.values, text.mask))
        return Dense(self.width, name="project")(normal)


class TokenDropout(nn.Module):
    """Dropout of whole tokens in training: a full text would identify its item.

    Attributes:
      rate: share of tokens hidden.
    """

    rate: float

    @nn.compact
    def __call__(self, text: Tokens, rows: Array, *, train: bool) -> Tokens:
        """Takes tokens out of the mask (b, L) of the items at `rows` (b,), in training only."""
        ones = jnp.ones(text.mask.shape)
        survivors = RowDropout(self.rate, name="dropout")(ones, rows, train=train) > 0
        return text._replace(mask=text.mask & survivors)


class TextEncoder(nn.Module):
    """Bag of tokens: their vectors, mean, GELU, Dense; (b, L) or (b, L, E) -> (b, D).

    Attributes:
      width: D, width of the features.
      model_width: width of a token's vector.
      vocabulary: number of buckets of the int ids; 0 for float embeddings.
    """

    width: int = 512
    model_width: int = 256
    vocabulary: int = 0

    @nn.compact
    def __call__(self, text: Tokens) -> Array:
        """Encodes the text; the order of its tokens has no influence."""
        vectors = TokenVectors(self.model_width, self.vocabulary, name="tokens")(text)
        return Dense(self.width, name="out")(nn.gelu(masked_mean(vectors, text.mask)))


class GatedText(Encoder):
    """Encoder of clips whose features those of the text are added to, through a gate.

    `features + gate ⊙ text`, gate = sigmoid(Dense([features, text])). The gate is that of the gated
    multimodal unit, Arevalo et al. 2017 (arXiv 1702.01992); the sum is ours, so that without text
    the features are exactly those of the encoder alone.

    Attributes:
      encoder: encoder of the clips; its head follows the sum.
      model_width: width of a token's vector.
      vocabulary: number of buckets of the int ids; 0 for float embeddings.
      token_dropout: share of tokens hidden in training.
    """

    encoder: Encoder
    model_width: int = 256
    vocabulary: int = 0
    token_dropout: float = 0.0

    @nn.compact
    def trunk(self, inputs: Clips, rows: Array, *, train: bool) -> Array:
        """Features of clips and text together: (b, N, P), (b,) -> (b, D)."""
        features = self.encoder.trunk(inputs, rows, train=train)
        tokens = text_of(inputs, self)
        if tokens is None:
            return features
        tokens = TokenDropout(self.token_dropout, name="tokens")(tokens, rows, train=train)
        width = features.shape[-1]
        text = TextEncoder(width, self.model_width, self.vocabulary, name="text")(tokens)
        both = jnp.concatenate([features, text], axis=1)
        gate = nn.sigmoid(Dense(width, name="gate")(both))
        has_text = tokens.mask.any(axis=1, keepdims=True)
        # Without text the biases of `text` and `gate` would still add something.
        return jnp.where(has_text, features + gate * text, features)

    def head(self, features: Array, *, train: bool) -> Array:
        """Head of the clips' encoder: (B, D) -> (B, D) unit rows."""
        return self.encoder.head(features, train=train)


def text_of(inputs: Clips, reader: nn.Module) -> Tokens | None:
    """Text of the inputs, or None; ValueError if `reader` is being initialised without any."""
    if inputs.text is None and reader.is_initializing():
        raise ValueError("an encoder that reads text must be initialised with text, masked or not")
    return inputs.text
