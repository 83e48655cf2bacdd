"""VM-NET's branch: layers, initialisation, dropout and normalisation as specified."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sequences import trunk

from vmr.encoders.branch import DEPTH_ABLATION, Branch, he_truncated
from vmr.encoders.encoder import Clips, unit_rows
from vmr.encoders.two_tower import TwoTower

KEY = jax.random.PRNGKey(0)


def features(rows: int, width: int = 20) -> jax.Array:
    return jax.random.normal(jax.random.PRNGKey(1), (rows, width))


def items(x: jax.Array) -> Clips:
    """Each of one clip, which is the whole item."""
    return Clips(x[:, None], jnp.ones((len(x), 1), bool))


def test_published_sizes_at_any_width_of_input() -> None:
    model = TwoTower(Branch((2048,)), Branch((2048, 1024)))
    shapes = jax.eval_shape(
        lambda: model.init(KEY, items(jnp.ones((2, 1024))), items(jnp.ones((2, 128))), train=False)
    )["params"]
    kernels = {
        tower: [layers[f"Dense_{n}"]["kernel"].shape for n in range(len(layers) - 1)]
        for tower, layers in shapes.items()
    }
    assert kernels == {
        "video_encoder": [(1024, 2048), (2048, 512)],
        "music_encoder": [(128, 2048), (2048, 1024), (1024, 512)],
    }


def test_depth_ablation_takes_widths_from_the_left() -> None:
    assert [DEPTH_ABLATION[:n] for n in (1, 3)] == [(2048,), (2048, 1024, 1024)]


def test_weights_are_truncated_at_two_sigma_and_not_rescaled() -> None:
    fan_in = 50
    weights = np.asarray(he_truncated(KEY, (fan_in, 4000)))
    sigma = np.sqrt(2 / fan_in)
    assert np.abs(weights).max() <= 2 * sigma
    # A normal truncated at 2σ keeps 0.8796 of its standard deviation.
    np.testing.assert_allclose(weights.std(), 0.8796 * sigma, rtol=5e-3)


def test_biases_start_at_zero() -> None:
    params = Branch((8,), width=4).init(KEY, items(features(2)), train=False)["params"]
    np.testing.assert_array_equal(params["Dense_0"]["bias"], 0)


@pytest.mark.parametrize("train", [True, False])
def test_matches_the_formula(train: bool) -> None:
    model = Branch((8,), width=4, dropout=0.0)
    x = features(6)
    variables = model.init(KEY, items(x), train=False)
    found, updated = model.apply(variables, items(x), train=train, mutable=["batch_stats"])
    layers = variables["params"]
    hidden = np.maximum(x @ layers["Dense_0"]["kernel"], 0) @ layers["Dense_1"]["kernel"]
    hidden = np.asarray(hidden)
    mean, variance = (hidden.mean(0), hidden.var(0)) if train else (np.zeros(4), np.ones(4))
    expected = (hidden - mean) / np.sqrt(variance + 1e-3)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    running = updated["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(running, 0.01 * mean if train else np.zeros(4), atol=1e-5)


def test_linear_ablation_leaves_every_relu_out() -> None:
    model = Branch((8, 8), width=4, dropout=0.0, linear=True)
    x = features(6)
    variables = model.init(KEY, items(x), train=False)
    up, down = (model.apply(variables, items(sign * x), train=False) for sign in (1, -1))
    np.testing.assert_allclose(up, -down, atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_a_residual_adds_a_linear_map_of_the_input(train: bool) -> None:
    plain, model = (Branch((8,), width=4, dropout=0.0, residual=on) for on in (False, True))
    x = features(6)
    variables = model.init(KEY, items(x), train=False)
    layers = dict(variables["params"])
    skip = layers.pop("Dense_residual")
    assert skip.keys() == {"kernel"}
    jax.tree.map(  # the other layers start as they do without
        np.testing.assert_array_equal, layers, plain.init(KEY, items(x), train=False)["params"]
    )
    of_plain = trunk(plain, {**variables, "params": layers}, items(x), jnp.arange(6), train=train)
    found = trunk(model, variables, items(x), jnp.arange(6), train=train)
    np.testing.assert_allclose(found, of_plain + x @ skip["kernel"], atol=1e-5)


def test_clips_are_averaged_first() -> None:
    model, x = Branch((8,), width=4), features(6)
    variables = model.init(KEY, items(x), train=False)
    mask = jnp.array([[True, False, True]] * 2)
    clips = Clips(x.reshape(2, 3, 20), mask)
    mean = (x.reshape(2, 3, 20)[:, 0] + x.reshape(2, 3, 20)[:, 2]) / 2
    found, expected = (model.apply(variables, given, train=False) for given in (clips, items(mean)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_batch_may_pass_the_trunk_in_pieces() -> None:
    """Each row by itself: the same features, and the same masks, whatever passes beside it."""
    model, x = Branch((8,), width=4, dropout=0.3, input_dropout=0.2), features(6)
    variables = model.init(KEY, items(x), train=False)
    whole = trunk(model, variables, items(x), jnp.arange(6), train=True)
    pieces = [
        trunk(model, variables, items(x[:3]), jnp.arange(3), train=True),
        trunk(model, variables, items(x[3:]), jnp.arange(3, 6), train=True),
    ]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)


def test_zero_rows_have_finite_gradients() -> None:
    gradient = jax.grad(lambda x: unit_rows(x).sum())(jnp.zeros((2, 3)))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(unit_rows(jnp.zeros((2, 3))), 0.0)
