"""Text that comes with a video, and how it joins the video's features."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vmr.encoders.dense import Dense
from vmr.encoders.dropout import RowDropout
from vmr.encoders.encoder import Clips, Encoder, Tokens, masked_mean, zero_absent

Array = jax.Array


class TokenVectors(nn.Module):
    """Text (b, L) or (b, L, E) -> (b, L, M): one vector a token, of one scale for both kinds.

    Attributes:
      width: M.
      vocabulary: buckets of the int ids; 0 where the values are float embeddings.
    """

    width: int
    vocabulary: int = 0

    @nn.compact
    def __call__(self, text: Tokens) -> Array:
        """What stands in place of absent tokens has no influence."""
        is_ids = jnp.issubdtype(text.values.dtype, jnp.integer)
        if is_ids != bool(self.vocabulary):
            given = "ids" if is_ids else "embeddings"
            raise ValueError(f"the text is {given}, but the vocabulary is {self.vocabulary}")
        if is_ids:
            # Ids beyond the vocabulary give NaN, which stops a run; padding may be anything.
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
    """Hides tokens in training: a whole text would be a key by which to know its item.

    Attributes:
      rate: rate of tokens hidden.
    """

    rate: float

    @nn.compact
    def __call__(self, text: Tokens, places: Array, *, train: bool) -> Tokens:
        """Tokens (b, L), (b,) -> the same with a mask of fewer in training."""
        kept = RowDropout(self.rate, name="dropout")(jnp.ones(text.mask.shape), places, train=train)
        return text._replace(mask=text.mask & (kept > 0))


class TextEncoder(nn.Module):
    """Text (b, L) or (b, L, E) -> (b, D): vectors of the tokens, their mean, GELU, Dense.

    Attributes:
      width: D, of the features.
      model_width: width of the tokens' vectors.
      vocabulary: buckets of the int ids; 0 where the values are float embeddings.
    """

    width: int = 512
    model_width: int = 256
    vocabulary: int = 0

    @nn.compact
    def __call__(self, text: Tokens) -> Array:
        """The order of the tokens has no influence."""
        vectors = TokenVectors(self.model_width, self.vocabulary, name="tokens")(text)
        return Dense(self.width, name="out")(nn.gelu(masked_mean(vectors, text.mask)))


class GatedText(Encoder):
    """Any encoder, to whose features those of the text are added through a gate.

    `features + gate ⊙ text`, gate = sigmoid(Dense([features, text])), as the gated multimodal unit
    of Arevalo et al. 2017 (arXiv 1702.01992), but as an addition: without text, the features are
    exactly those of the encoder alone.

    Attributes:
      encoder: encoder of the clips, whose head is the head of both.
      model_width: width of the tokens' vectors.
      vocabulary: buckets of the int ids; 0 where the text is float embeddings.
      token_dropout: rate of tokens hidden in training.
    """

    encoder: Encoder
    model_width: int = 256
    vocabulary: int = 0
    token_dropout: float = 0.0

    @nn.compact
    def trunk(self, inputs: Clips, places: Array, *, train: bool) -> Array:
        """(b, N, P), (b,) -> (b, D)."""
        features = self.encoder.trunk(inputs, places, train=train)
        tokens = text_of(inputs, self)
        if tokens is None:
            return features
        tokens = TokenDropout(self.token_dropout, name="tokens")(tokens, places, train=train)
        width = features.shape[-1]
        text = TextEncoder(width, self.model_width, self.vocabulary, name="text")(tokens)
        both = jnp.concatenate([features, text], axis=1)
        gate = nn.sigmoid(Dense(width, name="gate")(both))
        has_text = tokens.mask.any(axis=1, keepdims=True)
        return jnp.where(has_text, features + gate * text, features)

    def head(self, features: Array, *, train: bool) -> Array:
        """(B, D) -> (B, D) unit rows."""
        return self.encoder.head(features, train=train)


def text_of(inputs: Clips, reader: nn.Module) -> Tokens | None:
    """The text, if there is any; its reader needs some from which to make its parameters."""
    if inputs.text is None and reader.is_initializing():
        raise ValueError("an encoder that reads text must be initialised with text, masked or not")
    return inputs.text
