"""What holds for every encoder: rows by themselves, absent clips without influence."""

import jax
import numpy as np
import pytest
from sequences import ENCODERS, MASK, SLOPES, clips, embed, embed_and_gradients, parameters, trunk

from vmr.encoders.encoder import Clips, Encoder

every_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


@every_encoder
@pytest.mark.parametrize("garbage", [np.nan, 1e30])
def test_what_stands_in_place_of_an_absent_clip_is_gone(encoder: Encoder, garbage: float) -> None:
    inputs, variables = clips(), parameters(encoder)
    spoilt = inputs._replace(features=np.where(MASK[:, :, None], inputs.features, garbage))
    jax.tree.map(
        np.testing.assert_array_equal,
        embed_and_gradients(encoder, variables, spoilt, SLOPES),
        embed_and_gradients(encoder, variables, inputs, SLOPES),
    )


@every_encoder
def test_more_padding_changes_nothing(encoder: Encoder) -> None:
    inputs, variables = clips(), parameters(encoder)
    padded = Clips(
        np.pad(inputs.features, ((0, 0), (0, 3), (0, 0)), constant_values=7.0),
        np.pad(MASK, ((0, 0), (0, 3))),
        inputs.text,
    )
    expected, _ = embed_and_gradients(encoder, variables, inputs, SLOPES)
    np.testing.assert_allclose(embed(encoder, variables, padded), expected, atol=1e-6)


@every_encoder
def test_embeddings_and_gradients_are_finite_where_an_item_has_no_clip(encoder: Encoder) -> None:
    """The last item; absent clips get no gradient."""
    assert not MASK[-1].any()
    embeddings, (to_parameters, to_features) = embed_and_gradients(
        encoder, parameters(encoder), clips(), SLOPES
    )
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(to_parameters))
    np.testing.assert_array_equal(to_features[~MASK], 0.0)
    assert (np.abs(to_features[MASK]).max(axis=1) > 0).all()


@every_encoder
def test_a_row_passes_the_trunk_alike_whatever_passes_beside_it(encoder: Encoder) -> None:
    """So a batch may pass in pieces: a row's dropout follows its place in the batch."""
    inputs, variables = clips(), parameters(encoder)
    whole = trunk(encoder, variables, inputs, np.arange(4), train=True)
    rows = np.array([2, 2, 0, 1])
    found = trunk(encoder, variables, jax.tree.map(lambda x: x[rows], inputs), rows, train=True)
    np.testing.assert_allclose(found, whole[rows], atol=1e-6)
    elsewhere = trunk(encoder, variables, inputs, np.arange(4, 8), train=True)
    assert (np.abs(whole - elsewhere).max(axis=1)[:3] > 1e-3).all()
