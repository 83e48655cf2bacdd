"""Text through a gate, beside any encoder."""

import jax
import naive_encoders
import numpy as np
import pytest
from sequences import (
    HAS_TEXT,
    KEY,
    TEXT_MASK,
    VOCABULARY,
    clips,
    embed,
    parameters,
    transformer,
    trunk,
)

from vmr.encoders.branch import Branch
from vmr.encoders.encoder import Clips, Encoder, Tokens
from vmr.encoders.text import GatedText, TokenDropout, TokenVectors

ENCODER = Branch((8,), width=4, dropout=0.0)
TRANSFORMER = transformer(
    layers=1, dropout=0.0, input_dropout=0.0, text_tokens=True, vocabulary=VOCABULARY,
    token_dropout=0.9,
)  # fmt: skip


def gated(ids: bool) -> GatedText:
    return GatedText(ENCODER, model_width=8, vocabulary=VOCABULARY if ids else 0)


@pytest.mark.parametrize("ids", [False, True])
def test_without_text_the_features_are_exactly_the_encoders(ids: bool) -> None:
    encoder, inputs = gated(ids), clips(ids=ids)
    variables = parameters(encoder, ids)
    alone = trunk(ENCODER, {"params": variables["params"]["encoder"]}, inputs)
    found = trunk(encoder, variables, inputs)
    np.testing.assert_array_equal(found[~HAS_TEXT], alone[~HAS_TEXT])
    assert (np.abs(found - alone).max(axis=1)[HAS_TEXT] > 1e-3).all()
    without = trunk(encoder, variables, inputs._replace(text=None))
    np.testing.assert_array_equal(without, alone)


@pytest.mark.parametrize("ids", [False, True])
def test_matches_the_formula(ids: bool) -> None:
    encoder, inputs = gated(ids), clips(ids=ids)
    assert inputs.text is not None
    variables = parameters(encoder, ids)
    params = variables["params"]
    tokens = params["text"]["tokens"]
    alone = trunk(ENCODER, {"params": params["encoder"]}, inputs)
    found = trunk(encoder, variables, inputs)
    for item in np.flatnonzero(HAS_TEXT):
        values = inputs.text.values[item][TEXT_MASK[item]]
        if ids:
            vectors = tokens["embed"]["embedding"][values]
        else:
            normal = naive_encoders.layer_norm(tokens["norm"], values)
            vectors = naive_encoders.dense(tokens["project"], normal)
        expected = naive_encoders.gated_text(params, alone[item], vectors)
        np.testing.assert_allclose(found[item], expected, atol=1e-5)


def test_the_head_is_the_encoders() -> None:
    encoder = gated(ids=False)
    variables = parameters(encoder)
    assert set(variables["batch_stats"]) == {"encoder"}
    np.testing.assert_allclose(
        np.linalg.norm(embed(encoder, variables, clips()), axis=1), 1.0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("ids", "inputs", "message"),
    [
        (False, clips(ids=True), "the text is ids, but the vocabulary is 0"),
        (True, clips(), "the text is embeddings, but the vocabulary is 11"),
        (True, clips()._replace(text=None), "must be initialised with text"),
    ],
)
def test_text_that_does_not_fit_is_refused(ids: bool, inputs: Clips, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: gated(ids).init(KEY, inputs, train=False))


def test_tokens_are_hidden_in_training_alone_by_the_row_of_the_batch() -> None:
    text = Tokens(np.zeros((64, 50), np.int32), np.arange(50)[None, :] < np.arange(64)[:, None])
    places = np.arange(64)

    def hidden(rows: slice, train: bool) -> np.ndarray:
        some = jax.tree.map(lambda x: x[rows], text)
        module, rngs = TokenDropout(0.3), {"dropout": KEY}
        return module.apply({}, some, places[rows], train=train, rngs=rngs).mask

    np.testing.assert_array_equal(hidden(slice(None), train=False), text.mask)
    kept = hidden(slice(None), train=True)
    assert not (kept & ~text.mask).any()
    assert 0.65 < kept.sum() / text.mask.sum() < 0.75
    np.testing.assert_array_equal(hidden(slice(40, 64), train=True), kept[40:])


@pytest.mark.parametrize("encoder", [GatedText(ENCODER, 8, VOCABULARY, 0.9), TRANSFORMER])
def test_encoders_hide_tokens_where_they_are_told_to(encoder: Encoder) -> None:
    inputs = clips(ids=True)
    variables = parameters(encoder, True)
    places = np.arange(4)
    rngs = {"dropout": KEY}
    found = encoder.apply(variables, inputs, places, train=True, rngs=rngs, method="trunk")
    assert np.abs(found - trunk(encoder, variables, inputs)).max() > 1e-3


def test_words_and_embeddings_are_of_one_scale() -> None:
    words = Tokens(np.arange(64, dtype=np.int32)[None], np.ones((1, 64), bool))
    vectors, _ = TokenVectors(32, 64).init_with_output(KEY, words)
    assert 0.9 < np.std(vectors) < 1.1
