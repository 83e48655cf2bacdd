"""Learnt options: from their values to parameters and back, inside their bounds."""

import numpy as np
import pytest

from vmr.losses.learnable import LEARNABLE, as_options, bounded, initial

OPTIONS = {
    "infonce": {"temperature": 0.07},
    "siglip": {"scale": 10.0, "bias": -10.0},
    "crossclr": {"temperature": 0.03},
    "distillation": {"temperature": 0.07},
}


@pytest.mark.parametrize("loss", LEARNABLE)
def test_the_first_parameters_stand_for_the_options(loss: str) -> None:
    found = as_options(initial(loss, OPTIONS[loss]))
    assert found.keys() == OPTIONS[loss].keys()
    for option, value in OPTIONS[loss].items():
        np.testing.assert_allclose(found[option], value, rtol=1e-6)


def test_a_temperature_does_not_fall_below_that_of_clip() -> None:
    cold = bounded({"log_temperature": np.float32(-9.0)})
    np.testing.assert_allclose(as_options(cold)["temperature"], 0.01, rtol=1e-5)
    kept = {"log_temperature": np.float32(-2.0), "log_scale": np.float32(9.0)}
    assert bounded(kept) == kept
