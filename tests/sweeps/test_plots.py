"""Plots of a sweep: which are drawn, and what is written in them."""

import pathlib

import numpy as np
import pytest
from made_sweeps import made
from matplotlib.axes import Axes
from matplotlib.image import imread

from vmr.errors import UserError
from vmr.sweeps.plots import (
    Scores,
    difference_rows,
    heat_map,
    response_curve,
    save_plots,
    setting_rows,
)
from vmr.sweeps.results import Results, paired_differences
from vmr.sweeps.space import chain, log_uniform, product, random, seeds, sweep

MUSIC, VIDEO = "loss.weights.music", "loss.weights.video"
WEIGHTS = (0.0, 0.05, 0.2, 1.0)


def drawn(folder: pathlib.Path, results: Results) -> set[str]:
    """Names of the files, each a PNG that is neither tiny nor blank."""
    paths = save_plots(folder / "plots", results)
    for path in paths:
        image = imread(path)
        assert min(image.shape[:2]) > 150
        assert image.std() > 0.01
    assert {path.name for path in paths} == {one.name for one in (folder / "plots").iterdir()}
    return {path.name for path in paths}


def curve(results: Results) -> Axes:
    """Response curve of the first numeric axis."""
    axes = [axis for axis in results.axes if axis.varies]
    return response_curve(Scores(results), next(one for one in axes if one.numeric), axes).axes[0]


def test_tied_weights_have_one_curve_for_each_loss(tmp_path: pathlib.Path) -> None:
    none = product(sweep("loss.intra", ["none"]), sweep((MUSIC, VIDEO), [0.0]))
    both = product(sweep("loss.intra", ["js", "ii_mse"]), sweep((MUSIC, VIDEO), WEIGHTS))
    points = product(chain(none, both), seeds(2))
    results = made(tmp_path, points, lambda p: 30 + p.config.loss.weights.music + 2 * p.config.seed)
    assert drawn(tmp_path, results) == {"response_loss.weights._music_video.png", "differences.png"}
    panel = curve(results)
    assert panel.get_xlabel() == "loss.weights.{music,video}"
    assert panel.get_ylabel() == "validation v2m R@10 (%)"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0", "0.05", "0.2", "1"]
    (legend,) = panel.figure.legends
    assert [text.get_text() for text in legend.texts] == ["none", "js", "ii_mse"]


def test_a_setting_without_a_finished_seed_is_marked_and_not_drawn(tmp_path: pathlib.Path) -> None:
    points = product(sweep(MUSIC, WEIGHTS), seeds(2))
    results = made(
        tmp_path, points, lambda p: None if p.changes[MUSIC] == 0.2 else 30.0 + p.config.seed
    )
    drawn(tmp_path, results)
    assert Scores(results).finished == [0, 1, 3]
    (legend,) = curve(results).figure.legends
    assert [text.get_text() for text in legend.texts] == ["without a\nfinished seed"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.1, 0.2, 0.5], "linear"),
        ([0.01, 0.1, 1.0], "log"),
        ([0.0, 0.01, 1.0], "symlog"),
        ([0.0, 0.5, 1.0], "linear"),
        ([1.0, 2.0, 5.0, 10.5, 20, 50, 100, 200, 500, 1000, 2000], "log"),
        (np.linspace(1, 5, 20), "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_values_span_decades(
    tmp_path: pathlib.Path, values: list[float], scale: str
) -> None:
    panel = curve(made(tmp_path, sweep(MUSIC, values), lambda point: 30.0))
    assert panel.get_xscale() == scale
    low, high = panel.get_xlim()
    assert len([tick for tick in panel.get_xticks() if low <= tick <= high]) >= 3


def test_two_weights_that_are_crossed_have_a_heat_map(tmp_path: pathlib.Path) -> None:
    points = product(sweep(MUSIC, [0.1, 0.5, 1.0]), sweep(VIDEO, [0.1, 0.5]), seeds(2))

    def score(point) -> float | None:
        weights = point.config.loss.weights
        if (weights.music, weights.video) == (1.0, 0.5):
            return None
        return 30 + weights.music + 10 * weights.video + point.config.seed

    results = made(tmp_path, points, score)
    assert drawn(tmp_path, results) == {
        "differences.png",
        "heat_map_loss.weights.music_loss.weights.video.png",
        "response_loss.weights.music.png",
        "response_loss.weights.video.png",
    }
    x, y = results.axes
    panel = heat_map(Scores(results), x, y, [x, y]).axes[0]
    written = sorted(text.get_text().splitlines()[0] for text in panel.texts)
    assert written == ["31.6", "32.0", "32.5", "35.6", "36.0", "–"]
    assert (panel.get_xlabel(), panel.get_ylabel()) == (MUSIC, VIDEO)


def test_the_best_over_further_fields_is_drawn_and_said(tmp_path: pathlib.Path) -> None:
    points = product(
        sweep(MUSIC, [0.1, 0.5]), sweep(VIDEO, [0.1, 0.5]), sweep("optimizer.b1", [0.8, 0.9])
    )
    results = made(
        tmp_path, points, lambda p: 30 + p.config.loss.weights.music + 10 * p.config.optimizer.b1
    )
    x, y, rest = results.axes
    figure = heat_map(Scores(results), x, y, [x, y, rest])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(written) == ["39.1", "39.1", "39.5", "39.5"]
    assert figure.get_suptitle() == f"Best over optimizer.b1 at each {MUSIC} and {VIDEO}"
    title = curve(results).get_title(loc="left")
    assert title == f"Best over {VIDEO}, optimizer.b1 at each {MUSIC}"


def test_random_points_are_single_dots_and_have_no_heat_map(tmp_path: pathlib.Path) -> None:
    fields = (MUSIC, VIDEO, "optimizer.learning_rate")
    points = random({field: log_uniform(0.01, 1.0) for field in fields}, 20)
    results = made(tmp_path, points, lambda p: 30 + p.config.loss.weights.music)
    assert drawn(tmp_path, results) == {f"response_{field}.png" for field in fields}
    title = curve(results).get_title(loc="left")
    assert title == f"Each dot one setting; {VIDEO}, optimizer.learning_rate differ too"


def test_without_a_numeric_field_the_settings_stand_in_rows(tmp_path: pathlib.Path) -> None:
    points = product(sweep("loss.intra", ["js", "ii_mse"]), seeds(2))
    results = made(tmp_path / "words", points, lambda p: 30.0 + p.config.seed)
    assert drawn(tmp_path / "words", results) == {"settings.png", "differences.png"}
    results = made(tmp_path / "one", seeds(1), lambda point: 30.0)
    assert drawn(tmp_path / "one", results) == {"settings.png"}


def test_nothing_is_drawn_where_nothing_ended(tmp_path: pathlib.Path) -> None:
    results = made(tmp_path, sweep(MUSIC, WEIGHTS), lambda point: None)
    assert save_plots(tmp_path / "plots", results) == []
    assert not (tmp_path / "plots").exists()


def test_a_plot_that_cannot_be_written_is_told(tmp_path: pathlib.Path) -> None:
    results = made(tmp_path, sweep(MUSIC, WEIGHTS), lambda point: 30.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/response_loss.weights.music.png cannot be written"):
        save_plots(tmp_path / "file", results)


def test_an_axis_of_percent_ends_at_a_hundred_and_bars_are_explained(
    tmp_path: pathlib.Path,
) -> None:
    points = product(sweep(MUSIC, [0.1, 1.0]), seeds(2))
    results = made(tmp_path, points, lambda p: 100.0 - 40 * p.config.seed)
    scores, panel = Scores(results), curve(results)
    rows = setting_rows(scores, results.axes)
    assert scores.mean[0] + scores.half[0] > 100
    assert panel.get_ylim() == (0.0, 100.0)
    assert rows.axes[0].get_xlim() == (0.0, 100.0)
    for figure in (panel.figure, rows):
        assert figure.get_supxlabel().startswith("bars: 95 % t-interval of the mean over seeds")
    differences = difference_rows(paired_differences(results), results.axes, "R@10").axes[0]
    assert "R@10: difference to 0.1, seed by seed" in differences.get_xlabel()
