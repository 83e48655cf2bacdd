"""Plots of a sweep: which are drawn, and what they show."""

import pathlib

import numpy as np
import pytest
from made_sweeps import METRIC, made
from matplotlib.image import imread

from vmr.errors import UserError
from vmr.sweeps.axes import axes_of
from vmr.sweeps.heat_map import heat_map
from vmr.sweeps.outcomes import Setting
from vmr.sweeps.paired_differences import difference_rows, paired_differences
from vmr.sweeps.plots import save_plots
from vmr.sweeps.response_curve import response_curve
from vmr.sweeps.scores import Scores
from vmr.sweeps.setting_rows import setting_rows
from vmr.sweeps.space import chain, log_uniform, product, random, seeds, sweep

MUSIC, VIDEO = "loss.weights.music", "loss.weights.video"
WEIGHTS = (0.0, 0.05, 0.2, 1.0)


def names(folder: pathlib.Path, settings: list[Setting]) -> set[str]:
    """Of the files that are drawn, each a PNG that is neither tiny nor blank."""
    paths = save_plots(folder / "plots", settings, METRIC)
    for path in paths:
        image = imread(path)
        assert min(image.shape[:2]) > 150
        assert image.std() > 0.01
    assert {path.name for path in paths} == {one.name for one in (folder / "plots").iterdir()}
    return {path.name for path in paths}


def losses_at_weights(folder: pathlib.Path) -> list[Setting]:
    """Two losses at four weights and none at 0, two seeds each."""
    none = product(sweep("loss.intra", ["none"]), sweep((MUSIC, VIDEO), [0.0]))
    both = product(sweep("loss.intra", ["js", "ii_mse"]), sweep((MUSIC, VIDEO), WEIGHTS))
    return made(
        folder,
        product(chain(none, both), seeds(2)),
        lambda p: 30 + p.config.loss.weights.music + 2 * p.config.seed,
    )


def test_tied_weights_have_one_curve_for_each_loss(tmp_path: pathlib.Path) -> None:
    settings = losses_at_weights(tmp_path)
    assert names(tmp_path, settings) == {
        "response_loss.weights._music_video.png",
        "differences.png",
    }
    intra, weights = axes_of(settings)
    figure = response_curve(Scores(settings, METRIC), weights, [intra, weights])
    (panel,) = figure.axes
    assert panel.get_xlabel() == "loss.weights.{music,video}"
    assert panel.get_ylabel() == "validation v2m R@10 (%)"
    assert panel.get_xscale() == "symlog"
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0", "0.05", "0.2", "1"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["none", "js", "ii_mse"]
    lines = {bars.get_label(): bars.lines[0] for bars in panel.containers}
    np.testing.assert_allclose(lines["js"].get_ydata(orig=False), 31 + np.array(WEIGHTS))
    np.testing.assert_allclose(lines["js"].get_xdata(orig=False), WEIGHTS, rtol=0.1, atol=0.01)
    # All that is drawn is in sight, the ends of the intervals too.
    half = settings[0].half_interval(METRIC)
    low, high = panel.get_ylim()
    assert low < 31 - half < 32 + half < high


def test_a_setting_without_a_finished_seed_is_marked_and_not_drawn(tmp_path: pathlib.Path) -> None:
    settings = made(
        tmp_path,
        product(sweep(MUSIC, WEIGHTS), seeds(2)),
        lambda p: None if p.changes[MUSIC] == 0.2 else 30.0 + p.config.seed,
    )
    names(tmp_path, settings)
    (x,) = axes_of(settings)
    figure = response_curve(Scores(settings, METRIC), x, [x])
    (bars,) = figure.axes[0].containers
    np.testing.assert_allclose(bars.lines[0].get_xdata(orig=False), [0.0, 0.05, 1.0])
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [0.2]


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
    settings = made(tmp_path, sweep(MUSIC, values), lambda p: 30.0)
    (x,) = axes_of(settings)
    panel = response_curve(Scores(settings, METRIC), x, [x]).axes[0]
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

    settings = made(tmp_path, points, score)
    assert names(tmp_path, settings) == {
        "differences.png",
        "heat_map_loss.weights.music_loss.weights.video.png",
        "response_loss.weights.music.png",
        "response_loss.weights.video.png",
    }
    x, y = axes_of(settings)
    panel = heat_map(Scores(settings, METRIC), x, y, [x, y]).axes[0]
    (image,) = panel.images
    expected = [[31.6, 32.0, 32.5], [35.6, 36.0, np.nan]]
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), expected)
    written = {text.get_position(): text.get_text().splitlines()[0] for text in panel.texts}
    assert written == {
        (0, 0): "31.6",
        (1, 0): "32.0",
        (2, 0): "32.5",
        (0, 1): "35.6",
        (1, 1): "36.0",
        (2, 1): "–",
    }
    (frame,) = panel.patches
    assert (round(frame.get_x() + 0.47), round(frame.get_y() + 0.47)) == (1, 1)
    assert (panel.get_xlabel(), panel.get_ylabel()) == (MUSIC, VIDEO)


def test_the_best_over_further_fields_is_drawn_and_said(tmp_path: pathlib.Path) -> None:
    points = product(
        sweep(MUSIC, [0.1, 0.5]), sweep(VIDEO, [0.1, 0.5]), sweep("optimizer.b1", [0.8, 0.9])
    )
    settings = made(
        tmp_path, points, lambda p: 30 + p.config.loss.weights.music + 10 * p.config.optimizer.b1
    )
    x, y, rest = axes_of(settings)
    scores = Scores(settings, METRIC)
    figure = heat_map(scores, x, y, [x, y, rest])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[39.1, 39.5], [39.1, 39.5]])
    assert figure.get_suptitle() == f"Best over optimizer.b1 at each {MUSIC} and {VIDEO}"
    panel = response_curve(scores, x, [x, y, rest]).axes[0]
    np.testing.assert_allclose(panel.containers[0].lines[0].get_ydata(orig=False), [39.1, 39.5])
    assert panel.get_title(loc="left") == f"Best over {VIDEO}, optimizer.b1 at each {MUSIC}"


def test_random_points_are_not_joined_and_have_no_heat_map(tmp_path: pathlib.Path) -> None:
    points = random({MUSIC: log_uniform(0.01, 1.0), VIDEO: log_uniform(0.01, 1.0)}, 8)
    settings = made(tmp_path, points, lambda p: 30 + p.config.loss.weights.music)
    assert names(tmp_path, settings) == {
        "response_loss.weights.music.png",
        "response_loss.weights.video.png",
    }


def test_random_points_of_three_fields_are_dots(tmp_path: pathlib.Path) -> None:
    fields = (MUSIC, VIDEO, "optimizer.learning_rate")
    points = random({field: log_uniform(0.01, 1.0) for field in fields}, 20)
    settings = made(tmp_path, points, lambda p: 30 + p.config.loss.weights.music)
    axes = axes_of(settings)
    panel = response_curve(Scores(settings, METRIC), axes[0], axes).axes[0]
    (bars,) = panel.containers
    assert len(bars.lines[0].get_xdata()) == 20
    assert bars.lines[0].get_linestyle() == "None"


def test_without_a_numeric_field_the_settings_stand_in_rows(tmp_path: pathlib.Path) -> None:
    points = product(sweep("loss.intra", ["js", "ii_mse"]), seeds(2))
    settings = made(tmp_path / "words", points, lambda p: 30.0 + p.config.seed)
    assert names(tmp_path / "words", settings) == {"settings.png", "differences.png"}
    (one,) = made(tmp_path / "one", seeds(1), lambda point: 30.0)
    assert names(tmp_path / "one", [one]) == {"settings.png"}


def test_nothing_is_drawn_where_nothing_ended(tmp_path: pathlib.Path) -> None:
    settings = made(tmp_path, sweep(MUSIC, WEIGHTS), lambda point: None)
    assert save_plots(tmp_path / "plots", settings, METRIC) == []
    assert not (tmp_path / "plots").exists()


def test_a_plot_that_cannot_be_written_is_told(tmp_path: pathlib.Path) -> None:
    settings = made(tmp_path, sweep(MUSIC, WEIGHTS), lambda point: 30.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/response_loss.weights.music.png cannot be written"):
        save_plots(tmp_path / "file", settings, METRIC)


def test_an_axis_of_percent_ends_at_a_hundred_and_bars_are_explained(
    tmp_path: pathlib.Path,
) -> None:
    points = product(sweep(MUSIC, [0.1, 1.0]), seeds(2))
    settings = made(tmp_path, points, lambda p: 100.0 - 40 * p.config.seed)
    scores, axes = Scores(settings, METRIC), axes_of(settings)
    curve, rows = response_curve(scores, axes[0], axes), setting_rows(scores, axes)
    assert scores.mean[0] + scores.half[0] > 100
    assert curve.axes[0].get_ylim() == (0.0, 100.0)
    assert rows.axes[0].get_xlim() == (0.0, 100.0)
    for figure in (curve, rows):
        assert figure.get_supxlabel().startswith("bars: 95 % t-interval of the mean over seeds")


def test_differences_are_taken_seed_by_seed(tmp_path: pathlib.Path) -> None:
    """The seeds' luck, which both settings share, leaves nothing of its scatter in them."""
    points = [*product(sweep(MUSIC, [0.1, 1.0]), seeds(3)), {MUSIC: 9.0, "seed": 0}]
    settings = made(
        tmp_path, points, lambda p: 30 + 7 * p.config.seed + p.config.loss.weights.music
    )
    ((place, values),) = paired_differences(settings, METRIC)  # 9.0 shares one seed alone
    assert place == 1
    np.testing.assert_allclose(values, [0.9] * 3)
    panel = difference_rows([(place, values)], axes_of(settings), "R@10").axes[0]
    assert "difference to 0.1, seed by seed" in panel.get_xlabel()
