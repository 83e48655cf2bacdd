"""VM-NET's losses at the golden values of its specification."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import det, unit

from vmr.losses import inter, intra

pytestmark = pytest.mark.usefixtures("float64")

LOW_MUSIC, LOW_VIDEO = det(8, 6, 1), det(8, 5, 2)
MUSIC, VIDEO = unit(det(8, 4, 3)), unit(det(8, 4, 4))
PAIRED = np.eye(8, dtype=bool)
ROWS = np.arange(8)


def ranking(anchors: np.ndarray, gallery: np.ndarray, top_k: int) -> jax.Array:
    return inter.ranking(jnp.asarray(anchors), gallery, PAIRED, top_k=top_k).mean()


def adjacent(inputs: np.ndarray, embeddings: np.ndarray, top_k: int) -> jax.Array:
    z = jnp.asarray(embeddings)
    return intra.structure_adjacent(inputs, z, inputs, z, ROWS, top_k=top_k).mean()


@pytest.mark.parametrize(
    ("top_k", "m2v", "v2m", "music", "video", "total"),
    [
        (3, 0.0427724383, 0.0345768034, 0.0, 0.2941028689, 0.2217146921),
        (8, 0.0160396644, 0.0129663013, 0.2227345935, 0.5143356575, 0.2084993446),
    ],
)
def test_terms_and_total(
    top_k: int, m2v: float, v2m: float, music: float, video: float, total: float
) -> None:
    terms = [
        ranking(MUSIC, VIDEO, top_k),
        ranking(VIDEO, MUSIC, top_k),
        adjacent(LOW_MUSIC, MUSIC, top_k),
        adjacent(LOW_VIDEO, VIDEO, top_k),
    ]
    # The golden values are printed to ten decimals.
    np.testing.assert_allclose(terms, [m2v, v2m, music, video], rtol=1e-9, atol=6e-11)
    weighted = sum(weight * term for weight, term in zip((3, 1, 0.2, 0.2), terms, strict=True))
    np.testing.assert_allclose(weighted, total, rtol=1e-9)


def test_all_triplets() -> None:
    values = [
        intra.structure(low, jnp.asarray(z), low, jnp.asarray(z), ROWS).mean()
        for low, z in ((LOW_MUSIC, MUSIC), (LOW_VIDEO, VIDEO))
    ]
    np.testing.assert_allclose(values, [0.3697149540, 0.7396760309], rtol=1e-9)


def test_gradient_of_adjacent_structure() -> None:
    gradient = jax.grad(lambda z: adjacent(LOW_MUSIC, z, 8))(MUSIC)
    np.testing.assert_allclose(np.linalg.norm(gradient), 0.3155264653, rtol=1e-9)
    np.testing.assert_allclose(
        gradient[0], [0.02010831, -0.00696227, 0.0530892, -0.04047846], atol=5e-9
    )


def test_gradient_of_ranking() -> None:
    gradient = jax.grad(lambda z: ranking(z, VIDEO, 3))(MUSIC)
    np.testing.assert_allclose(np.linalg.norm(gradient), 0.0996601173, rtol=1e-9)
