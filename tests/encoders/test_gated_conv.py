"""The gated convolutions against their naive reference, and at their edges."""

import naive_encoders
import numpy as np
import pytest
from sequences import MASK, clips, gated_conv, parameters, trunk

from vmr.encoders.gated_conv import channel_convolution


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_matches_the_reference(pooling: str) -> None:
    encoder, inputs = gated_conv(pooling=pooling), clips()
    variables = parameters(encoder)
    found = trunk(encoder, variables, inputs)
    for item in range(3):
        features = inputs.features[item] * MASK[item][:, None]
        expected = naive_encoders.gated_conv(variables["params"], features, MASK[item], encoder)
        np.testing.assert_allclose(found[item], expected, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_convolution_is_centred_and_sees_zeros_beyond_the_ends(kernel: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 4, 3)).astype(np.float32)
    weights = generator.normal(size=(kernel, 3)).astype(np.float32)
    found = channel_convolution(x, weights)
    for item, channel in np.ndindex(2, 3):
        full = np.convolve(x[item, :, channel], weights[::-1, channel])
        reach = kernel // 2
        np.testing.assert_allclose(
            found[item, :, channel], full[reach : reach + 4], atol=1e-5, rtol=1e-5
        )


def test_settings_that_do_not_fit_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="4 is even"):
        gated_conv(kernel=4)
    with pytest.raises(ValueError, match="pooling is 'cls'; it must be one of mean, attention"):
        gated_conv(pooling="cls")
