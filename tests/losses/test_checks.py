"""Arrays of another shape or type are refused by every public loss, also while it is traced."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vmr.losses import inter, intra
from vmr.losses.objective import Objective
from vmr.losses.pairs import Pairs

N, D, P = 6, 4, 5
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32)
INPUTS = jnp.asarray(RNG.normal(size=(N, P)), jnp.float32)
SAME = jnp.eye(N, dtype=bool)
ROWS = jnp.arange(N)
INTER = (inter.ranking, inter.infonce, inter.siglip, inter.crossclr, inter.distillation)
INTRA = (
    *(intra.structure, intra.structure_adjacent, intra.ii_mse, intra.ii_kl),
    *(intra.js, intra.gram, intra.rkd_distance),
)
OWN = inter.Own(X, INPUTS, ROWS)
PAIRS = Pairs(X, X[::-1], INPUTS, INPUTS, ROWS)
ONES = dict.fromkeys(("m2v", "v2m", "music", "video"), jnp.float32(1.0))


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("loss", INTER, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize(
    "change",
    [
        (X, X, SAME.astype(int)),  # whose ~1 is -2
        (X, X, SAME.astype(jnp.float32)),
        (X, X, SAME[:, :1]),  # which would broadcast
        (X, X, SAME[0]),
        (X[:3], X, SAME),
        (X, X[:, :3], SAME),
        (X.astype(int), X, SAME),
        (X[0], X, SAME[0]),
    ],
)
def test_inter_modal_losses(wrap: Any, loss: Any, change: tuple[jax.Array, ...]) -> None:
    loss = wrap(loss)
    assert jax.eval_shape(loss, X, X, SAME).shape == (N,)
    with pytest.raises(AssertionError):
        loss(*change)


@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize("loss", INTRA, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize(
    "change",
    [
        {0: INPUTS[:, :3]},
        {1: X[:3]},
        {2: INPUTS[:3]},
        {3: X[:, :2]},
        {4: ROWS[:3]},
        {4: ROWS[:, None]},
        {4: ROWS.astype(jnp.float32)},
        {0: INPUTS.astype(int), 2: INPUTS.astype(int)},
    ],
)
def test_intra_modal_losses(wrap: Any, loss: Any, change: dict[int, jax.Array]) -> None:
    loss, whole = wrap(loss), [INPUTS, X, INPUTS, X, ROWS]
    assert jax.eval_shape(loss, *whole).shape == (N,)
    with pytest.raises(AssertionError):
        loss(*(change.get(place, array) for place, array in enumerate(whole)))


@pytest.mark.parametrize(
    "own",
    [OWN._replace(all_inputs=INPUTS[:3]), OWN._replace(rows=ROWS[:2]), OWN._replace(rows=X)],
)
def test_the_anchors_own_modality(own: inter.Own) -> None:
    assert inter.crossclr(X, X, SAME, own=OWN).shape == (N,)
    with pytest.raises(AssertionError):
        inter.crossclr(X, X, SAME, own=own)


@pytest.mark.parametrize(
    "change",
    [
        {"positive_ids": ROWS[:3]},
        {"positive_ids": ROWS[:, None]},
        {"positive_ids": X[:, 0]},
        {"music": X[:3]},
        {"video_inputs": INPUTS[:3]},
    ],
)
def test_pairs_of_an_objective(change: dict[str, jax.Array]) -> None:
    objective = Objective(inter.infonce, intra.ii_mse)
    for entry in (objective.rows, lambda pairs: objective.value_and_gradient(pairs, ONES)):
        with pytest.raises(AssertionError):
            entry(PAIRS._replace(**change))


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: inter.infonce(X, X, SAME, temperature=x),
        lambda x: inter.ranking(X, X, SAME, margin=x),
        lambda x: inter.siglip(X, X, SAME, scale=x),
        lambda x: inter.siglip(X, X, SAME, bias=x),
        lambda x: inter.crossclr(X, X, SAME, temperature=x, own=OWN),
        lambda x: intra.ii_kl(INPUTS, X, INPUTS, X, ROWS, temperature=x),
        lambda x: intra.js(INPUTS, X, INPUTS, X, ROWS, temperature=x),
        lambda x: intra.rkd_distance(INPUTS, X, INPUTS, X, ROWS, means=(jnp.float32(1.0), x)),
        lambda x: Objective(inter.infonce).value_and_gradient(PAIRS, {"m2v": x, "v2m": 1.0}).loss,
        lambda x: (
            Objective(functools.partial(inter.infonce, temperature=x))
            .value_and_gradient(PAIRS, ONES)
            .loss
        ),
        lambda x: (
            Objective(inter.siglip).value_and_gradient(PAIRS, ONES, {"bias": x}).to_learnt["bias"]
        ),
    ],
)
def test_options_and_weights_are_single_numbers(loss: Any) -> None:
    jax.eval_shape(loss, jnp.float32(0.5))
    for shape in ((1,), (N,), (N, 1), (1, N)):
        with pytest.raises(AssertionError, match="expected one number"):
            jax.eval_shape(loss, jnp.full(shape, 0.5))


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(AssertionError, match=r"int32 but expected .*positives, expected \(6, 6\)"):
        inter.infonce(X, X, SAME.astype(int))
    with pytest.raises(AssertionError, match=r"\(6, 1\) but expected .*rows, expected \(6,\) int"):
        intra.ii_mse(INPUTS, X, INPUTS, X, ROWS[:, None])
    with pytest.raises(AssertionError, match=r"rows, expected \(6,\) int"):
        intra.mean_distances(X, X, ROWS[:, None])
    with pytest.raises(AssertionError, match=r"bool but expected .*float"):
        inter.hardest_negatives(SAME, SAME, 0.1, 1)


def test_a_term_without_a_weight_is_named() -> None:
    objective = Objective(inter.infonce, intra.ii_mse)
    message = "weights has m2v, v2m and lacks music, video: this objective has the terms m2v, v2m,"
    with pytest.raises(KeyError, match=message):
        objective.value_and_gradient(PAIRS, {"m2v": ONES["m2v"], "v2m": ONES["v2m"]})
    found = Objective(inter.infonce).value_and_gradient(PAIRS, {"m2v": 1.0, "v2m": 1.0})
    assert found.terms.keys() == {"m2v", "v2m"}


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["plain", "jit", "vmap"])
def test_who_differentiates_the_gradient_is_told_that_it_is_one(wrap: Any) -> None:
    objective = Objective(functools.partial(inter.infonce, temperature=0.1))

    def loss(video: jax.Array) -> jax.Array:
        pairs = PAIRS._replace(video=video)
        return objective.value_and_gradient(pairs, {"m2v": 1.0, "v2m": 1.0}).loss

    video = X[None] if wrap is jax.vmap else X
    assert np.isfinite(wrap(loss)(video)).all()
    with pytest.raises(TypeError, match="value_and_gradient returns the gradient"):
        wrap(jax.grad(loss))(video)
