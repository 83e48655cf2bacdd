"""Sweeps as plain data."""

import math

import numpy as np
import pytest

from vmr.errors import UserError
from vmr.sweeps.space import (
    Choice,
    chain,
    choice,
    log_uniform,
    product,
    random,
    seeds,
    sweep,
    uniform,
    zipped,
)

BOTH = ("loss.weights.music", "loss.weights.video")


def test_several_fields_take_the_same_value() -> None:
    assert sweep("a", [1, 2]) == [{"a": 1}, {"a": 2}]
    assert sweep(BOTH, [0.5]) == [{"loss.weights.music": 0.5, "loss.weights.video": 0.5}]
    assert seeds(2) == [{"seed": 0}, {"seed": 1}]


def test_a_product_has_every_combination_and_the_last_space_varies_fastest() -> None:
    found = product(sweep("a", "xy"), sweep("b", [1, 2]))
    assert found == [{"a": "x", "b": 1}, {"a": "x", "b": 2}, {"a": "y", "b": 1}, {"a": "y", "b": 2}]


def test_zipped_spaces_join_place_by_place() -> None:
    assert zipped(sweep("a", [1, 2]), sweep("b", [3, 4])) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    with pytest.raises(UserError, match="one length, found 2, 3 points"):
        zipped(sweep("a", [1, 2]), sweep("b", [3, 4, 5]))


def test_a_field_has_one_value_in_a_point() -> None:
    with pytest.raises(UserError, match="a is 1 and 2 in one point"):
        product(sweep("a", [1]), sweep("a", [2]))
    with pytest.raises(UserError, match=r"loss\.weights\.music is 0\.5 and 0\.1"):
        zipped(sweep(BOTH, [0.5]), sweep("loss.weights.music", [0.1]))
    assert product(sweep("a", [1]), sweep(("a", "b"), [1])) == [{"a": 1, "b": 1}]


def test_a_chain_keeps_equal_points_once_where_they_come_first() -> None:
    found = chain(sweep("a", [1, 2]), [{"a": 3}, {"a": 1.0}], sweep("a", [2, 4]))
    assert found == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]


def test_values_become_plain() -> None:
    (point,) = sweep("a", np.geomspace(0.1, 0.1, 1))
    assert type(point["a"]) is float
    (point,) = sweep("a", [[np.int64(3), 4]])
    assert point == {"a": (3, 4)}
    assert type(point["a"][0]) is int
    with pytest.raises(UserError, match="a value of a is"):
        sweep("a", [{"b": 1}])


def test_nothing_to_sweep_is_told() -> None:
    with pytest.raises(UserError, match=r"the sweep of loss.weights.music has no values"):
        sweep("loss.weights.music", [])
    with pytest.raises(UserError, match="seed has no values"):
        seeds(0)
    with pytest.raises(UserError, match="choice\\(\\) has no values"):
        choice([])


@pytest.mark.parametrize("sobol", [False, True])
def test_random_points_lie_in_their_ranges_and_more_begin_with_fewer(sobol: bool) -> None:
    ranges = {
        BOTH: log_uniform(0.01, 10.0),
        "optimizer.b1": uniform(0.5, 0.9),
        "loss.intra": choice(["js", "ii_mse", "none"]),
    }
    points = random(ranges, 100, seed=3, sobol=sobol)
    assert len(points) == 100
    weights = np.array([point["loss.weights.music"] for point in points])
    assert all(point["loss.weights.video"] == point["loss.weights.music"] for point in points)
    # A third of the decades: a uniform draw would have a hundredth of its values there.
    assert 0.2 < np.mean(weights < 0.1) < 0.45
    assert 0.01 <= weights.min() < weights.max() <= 10
    rates = [point["optimizer.b1"] for point in points]
    assert 0.5 <= min(rates) < 0.55 < 0.85 < max(rates) <= 0.9
    assert {point["loss.intra"] for point in points} == {"js", "ii_mse", "none"}
    assert random(ranges, 7, seed=3, sobol=sobol) == points[:7]
    assert random(ranges, 7, seed=4, sobol=sobol) != points[:7]


def test_a_sobol_sequence_has_a_point_in_every_part() -> None:
    points = random({"a": uniform(0.0, 1.0), "b": log_uniform(1.0, math.e)}, 64, sobol=True)
    for values in ([p["a"] for p in points], [math.log(p["b"]) for p in points]):
        parts, _ = np.histogram(values, bins=16, range=(0, 1))
        assert np.all(np.abs(parts - 4) <= 1), parts  # 4 but for the rounding to four digits


def test_random_values_are_short() -> None:
    points = random({"a": log_uniform(1e-4, 1e-2)}, 50)
    assert all(len(f"{point['a']:.4g}") >= 5 for point in points)
    assert all(float(f"{point['a']:.4g}") == point["a"] for point in points)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: log_uniform(0.0, 1.0), "expected 0 < low < high"),
        (lambda: log_uniform(2.0, 1.0), "expected 0 < low < high"),
        (lambda: log_uniform(1.0, math.inf), "finite"),
        (lambda: uniform(1.0, 1.0), "expected low < high"),
        (lambda: uniform(math.nan, 1.0), "expected low < high"),
        (lambda: random({}, 3), "no ranges"),
        (lambda: random({"a": uniform(0, 1)}, 0), "count is 0"),
        (lambda: random({"a": (0, 1)}, 3), "range of a is"),  # type: ignore[dict-item]
    ],
)
def test_ranges_that_cannot_be_drawn_from(make, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        make()


def test_every_choice_is_as_likely() -> None:
    of_three = Choice((0, 1, 2))
    drawn = [of_three.at(share) for share in np.arange(300) / 300]
    assert [drawn.count(value) for value in (0, 1, 2)] == [100, 100, 100]
