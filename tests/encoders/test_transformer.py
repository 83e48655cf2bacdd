"""The Transformer against its naive reference; the order of clips; text beside them."""

from typing import Any

import jax
import naive_encoders
import numpy as np
import pytest
from sequences import (
    HAS_TEXT,
    KEY,
    MASK,
    SLOPES,
    TEXT_MASK,
    VOCABULARY,
    clips,
    embed,
    embed_and_gradients,
    parameters,
    transformer,
)

from vmr.encoders.encoder import Clips, Tokens

WITH_CLIPS = 3  # the fourth item has none


def naive(params: Any, inputs: Clips, settings: Any) -> np.ndarray:
    """(3, D): the items that have clips."""
    rows = []
    for item in range(WITH_CLIPS):
        (places,) = np.nonzero(inputs.mask[item])
        assert inputs.text is not None
        text = inputs.text.values[item][inputs.text.mask[item]]
        features = inputs.features[item][places]
        rows.append(naive_encoders.transformer(params, features, list(places), text, settings))
    return np.stack(rows)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("positions", "pooling", "layers"),
    [("learned", "mean", 1), ("sinusoidal", "attention", 1), ("none", "cls", 2)],
)
def test_values_and_gradients_match_the_reference(
    positions: str, pooling: str, layers: int
) -> None:
    """Each parameter's gradient along a random direction, against differences of the reference.

    To float32: JAX takes the softmax of the attention in it, whatever is given.
    """
    encoder = transformer(positions=positions, pooling=pooling, layers=layers, text_tokens=True)
    generator, slopes = np.random.default_rng(0), SLOPES * (np.arange(4) < WITH_CLIPS)[:, None]
    params = jax.tree.map(np.float64, parameters(encoder)["params"])
    inputs = clips()
    inputs = inputs._replace(features=np.float64(inputs.features))
    found, (gradients, _) = embed_and_gradients(encoder, {"params": params}, inputs, slopes)
    np.testing.assert_allclose(found[:WITH_CLIPS], naive(params, inputs, encoder), atol=1e-6)

    leaves, tree = jax.tree.flatten(params)
    for place, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(gradients), strict=True)):
        direction = generator.normal(size=leaf.shape)
        up, down = (
            naive(tree.unflatten([*leaves[:place], moved, *leaves[place + 1 :]]), inputs, encoder)
            for moved in (leaf + 1e-5 * direction, leaf - 1e-5 * direction)
        )
        slope = np.sum((up - down) * slopes[:WITH_CLIPS]) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("positions", "moves"), [("none", False), ("learned", True)])
def test_the_order_of_clips_counts_where_they_have_positions(positions: str, moves: bool) -> None:
    encoder = transformer(positions=positions, layers=1)
    inputs, order = clips()._replace(text=None), [3, 0, 4, 2, 1]
    variables = parameters(encoder)
    turned = Clips(inputs.features[:, order], MASK[:, order])
    difference = embed(encoder, variables, inputs) - embed(encoder, variables, turned)
    changes = np.abs(difference).max(axis=1)
    assert (changes[:WITH_CLIPS] > 1e-3).all() if moves else (changes < 1e-6).all()


@pytest.mark.parametrize(("pooling", "ids"), [("mean", False), ("attention", True), ("cls", False)])
def test_text_counts_where_it_is_there(pooling: str, ids: bool) -> None:
    encoder = transformer(
        pooling=pooling, layers=1, text_tokens=True, vocabulary=VOCABULARY if ids else 0
    )
    inputs, variables = clips(ids=ids), parameters(encoder, ids)
    assert inputs.text is not None
    mask = TEXT_MASK.reshape(TEXT_MASK.shape + (1,) * (inputs.text.values.ndim - 2))
    spoilt = Tokens(np.where(mask, inputs.text.values, -1 if ids else np.nan), TEXT_MASK)
    with_text = embed(encoder, variables, inputs)
    without = embed(encoder, variables, inputs._replace(text=None))
    np.testing.assert_allclose(with_text[~HAS_TEXT], without[~HAS_TEXT], atol=1e-6)
    assert (np.abs(with_text - without).max(axis=1)[:2] > 1e-3).all()
    np.testing.assert_array_equal(
        embed(encoder, variables, inputs._replace(text=spoilt)), with_text
    )


def test_text_is_left_aside_unless_asked_for() -> None:
    encoder = transformer(positions="none", layers=1)
    found = embed(encoder, parameters(encoder), clips())
    without = embed(encoder, parameters(encoder), clips()._replace(text=None))
    np.testing.assert_array_equal(found, without)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": "rotary"}, "positions is 'rotary'; it must be one of learned, sinusoidal"),
        ({"pooling": "max"}, "pooling is 'max'"),
        ({"heads": 3}, "3 heads cannot share a width of 8"),
        ({"model_width": 9, "heads": 3, "positions": "sinusoidal"}, "an even width, not 9"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transformer(**settings)


@pytest.mark.parametrize(
    ("settings", "inputs", "message"),
    [
        ({"max_clips": 4}, clips(), "5 clips, but positions are learned for 4"),
        ({"text_tokens": True}, clips()._replace(text=None), "must be initialised with text"),
        ({"text_tokens": True}, clips(ids=True), "the text is ids, but the vocabulary is 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(settings: Any, inputs: Clips, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: transformer(**settings).init(KEY, inputs, train=False))
