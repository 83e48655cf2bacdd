"""Distillation against its naive reference, at its ends, in blocks and on several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vmr.losses import inter
from vmr.losses.objective import Objective
from vmr.losses.pairs import Pairs

pytestmark = pytest.mark.usefixtures("float64")

TRACKS = np.array([0, 0, 1, 2, 3, 1, 1, 4])
SAME_TRACK = TRACKS[:, None] == TRACKS[None, :]
OPTIONS = {"temperature": 0.2, "teacher_temperature": 0.5, "share": 0.3}
WEIGHTS = {"m2v": 3.0, "v2m": 1.0}


def rows(seed: int, width: int = 4) -> np.ndarray:
    return reference.unit(np.random.default_rng(seed).normal(size=(8, width)))


TEACHER = inter.Teacher(rows(7, 11), rows(8, 11))


def naive(anchors: np.ndarray, gallery: np.ndarray, share: float = 0.3) -> np.ndarray:
    by_labels = reference.infonce(anchors, gallery, SAME_TRACK, temperature=0.2)
    found = []
    for i, anchor in enumerate(anchors):
        teacher = np.exp(TEACHER.gallery @ TEACHER.anchors[i] / 0.5)
        student = np.exp(gallery @ anchor / 0.2)
        entropy = 0.0
        for q, p in zip(teacher / teacher.sum(), student / student.sum(), strict=True):
            entropy -= q * np.log(p)
        found.append((1 - share) * by_labels[i] + share * entropy)
    return np.array(found)


@functools.partial(jax.jit, static_argnames="share")
def distilled(anchors: jax.Array, gallery: jax.Array, share: float = 0.3) -> jax.Array:
    options = {**OPTIONS, "share": share}
    return inter.distillation(anchors, gallery, SAME_TRACK, teacher=TEACHER, **options)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_matches_the_reference(share: float) -> None:
    found = distilled(rows(1), rows(2), share)
    np.testing.assert_allclose(found, naive(rows(1), rows(2), share), rtol=1e-12)


def test_gradient_matches_finite_differences() -> None:
    gradient = jax.jit(jax.grad(lambda x, y: distilled(x, y).mean(), argnums=(0, 1)))
    to_anchors, to_gallery = gradient(rows(1), rows(2))
    numeric = reference.central_differences(lambda z: naive(z, rows(2)).mean(), rows(1))
    np.testing.assert_allclose(to_anchors, numeric, atol=1e-7)
    numeric = reference.central_differences(lambda z: naive(rows(1), z).mean(), rows(2))
    np.testing.assert_allclose(to_gallery, numeric, atol=1e-7)


def test_without_a_teacher_it_is_infonce() -> None:
    found = inter.distillation(rows(1), rows(2), SAME_TRACK, **OPTIONS)
    expected = inter.infonce(rows(1), rows(2), SAME_TRACK, temperature=0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_student_of_the_teachers_scores_has_no_gradient() -> None:
    """At its minimum: the same scores in the same units."""
    teacher = inter.Teacher(rows(1), rows(2))
    options = {"temperature": 0.2, "teacher_temperature": 0.2, "share": 1.0, "teacher": teacher}
    gradient = jax.grad(lambda z: inter.distillation(z, rows(2), SAME_TRACK, **options).sum())
    np.testing.assert_allclose(gradient(jnp.asarray(rows(1))), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    "teacher",
    [
        TEACHER._replace(anchors=TEACHER.anchors[:3]),
        TEACHER._replace(gallery=TEACHER.gallery[:3]),
        TEACHER._replace(gallery=TEACHER.gallery[:, :3]),
        TEACHER._replace(gallery=SAME_TRACK),
    ],
)
def test_a_teacher_of_another_shape_is_refused(teacher: inter.Teacher) -> None:
    with pytest.raises(AssertionError):
        inter.distillation(rows(1), rows(2), SAME_TRACK, teacher=teacher)


def sample() -> Pairs:
    return Pairs(
        *(jnp.asarray(rows(seed)) for seed in (1, 2, 3, 4)),
        jnp.asarray(TRACKS),
        jnp.asarray(TEACHER.anchors),
        jnp.asarray(TEACHER.gallery),
    )


def objective(block_rows: int | None = None) -> Objective:
    return Objective(functools.partial(inter.distillation, **OPTIONS), block_rows=block_rows)


def test_both_directions_have_their_own_anchors() -> None:
    terms = objective().rows(sample())
    np.testing.assert_allclose(terms["v2m"], naive(rows(1), rows(2)), rtol=1e-12)
    turned = inter.Teacher(TEACHER.gallery, TEACHER.anchors)
    expected = inter.distillation(rows(2), rows(1), SAME_TRACK, teacher=turned, **OPTIONS)
    np.testing.assert_allclose(terms["m2v"], expected, rtol=1e-12)


@pytest.mark.parametrize(("count", "block_rows"), [(1, 3), (2, None), (2, 3), (8, None)])
def test_blocks_and_devices_give_the_whole(count: int, block_rows: int | None) -> None:
    learnt = {"log_temperature": jnp.asarray(-1.0)}
    expected = jax.jit(objective().value_and_gradient)(sample(), WEIGHTS, learnt)
    find = functools.partial(objective(block_rows).value_and_gradient, axis_name="devices")
    shards = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), sample())
    found = jax.pmap(find, "devices", in_axes=(0, None, None), devices=jax.devices()[:count])(
        shards, WEIGHTS, learnt
    )
    for side in ("video", "music"):
        whole = found.gradient[side].reshape(8, -1)
        np.testing.assert_allclose(whole, expected.gradient[side], atol=1e-12)
    for device in range(count):
        np.testing.assert_allclose(found.loss[device], expected.loss, rtol=1e-12)
        to_learnt = found.to_learnt["log_temperature"][device]
        np.testing.assert_allclose(to_learnt, expected.to_learnt["log_temperature"], rtol=1e-10)


def test_a_teacher_of_one_modality_is_refused() -> None:
    with pytest.raises(AssertionError):
        objective().rows(sample()._replace(music_teacher=None))
