"""The ranges of a search, from a sweep that names none and to what Optuna samples."""

from made_sweeps import base_config

from vmr.sweeps.search_space import SearchSpace, choices_of
from vmr.sweeps.space import Choice, chain, choice, log_uniform, product, seeds, sweep

BOTH = ("loss.weights.music", "loss.weights.video")


def test_the_values_of_a_sweep_are_choices_and_tied_fields_stay_tied() -> None:
    losses = chain(
        product(sweep("loss.intra", ["none"]), sweep(BOTH, [0.0])),
        product(sweep("loss.intra", ["js", "gram"]), sweep(BOTH, [0.5, 2.0])),
    )
    assert choices_of(product(losses, seeds(3))) == {
        ("loss.intra",): Choice(("none", "js", "gram")),
        BOTH: Choice((0.0, 0.5, 2.0)),
    }


def test_fields_that_some_points_leave_as_they_are_give_the_values_they_name() -> None:
    points = chain(sweep("loss.intra", ["js"]), sweep("loss.js.temperature", [0.1, 0.2]))
    assert choices_of(points) == {
        ("loss.intra",): Choice(("js",)),
        ("loss.js.temperature",): Choice((0.1, 0.2)),
    }


def test_what_is_sampled_becomes_plain_points() -> None:
    hidden = choice([(32,), (16, 16)])
    space = SearchSpace(
        base_config(), {BOTH: log_uniform(0.1, 0.3), "model.video.hidden": hidden}, (5, 7)
    )
    assert space.distributions().keys() == {",".join(BOTH), "model.video.hidden"}
    points = space.points({",".join(BOTH): 0.12345678, "model.video.hidden": "(16, 16)"})
    assert [point.config.seed for point in points] == [5, 7]
    assert points[0].changes == {
        "loss.weights.music": 0.1235,
        "loss.weights.video": 0.1235,
        "model.video.hidden": (16, 16),
        "seed": 5,
    }


def test_rounding_does_not_leave_the_range() -> None:
    space = SearchSpace(base_config(), {BOTH: log_uniform(0.12344, 0.3)}, (0,))
    (point,) = space.points({",".join(BOTH): 0.12344})
    assert point.config.loss.weights.music == 0.12344  # and not 0.1234
