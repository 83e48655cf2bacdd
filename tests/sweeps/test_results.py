"""Results of a sweep: what its folders tell, and what is chosen by it."""

import pathlib

import numpy as np
import pytest
from made_sweeps import METRIC, base_config, finish, made
from scipy import stats

from vmr.sweeps.jobs import note_failure, run_of
from vmr.sweeps.points import SweepPoint, checked_points
from vmr.sweeps.results import Results, Row, half_interval, paired_differences, row_of
from vmr.sweeps.space import chain, product, seeds, sweep

WEIGHT = "loss.weights.music"


def only_point() -> SweepPoint:
    (point,) = checked_points([{WEIGHT: 0.5}], base_config())
    return point


def read(point: SweepPoint, workdir: pathlib.Path) -> Row:
    return row_of(point, run_of(point, workdir))


def test_the_best_validation_counts_and_of_equals_the_first(tmp_path: pathlib.Path) -> None:
    point = only_point()
    finish(run_of(point, tmp_path), [30.0, 34.0, 33.0, 34.0, 31.0])
    found = read(point, tmp_path)
    assert (found.status, found.failure, found.best_step) == ("finished", "", 5)
    assert found.validation[METRIC] == 34.0
    assert found.validation["m2v/R@10"] == 33.0


def test_a_run_that_has_not_begun_failed_or_was_stopped(tmp_path: pathlib.Path) -> None:
    point = only_point()
    found = read(point, tmp_path)
    assert (found.status, found.best_step, found.validation) == ("unfinished", None, {})
    note_failure(run_of(point, tmp_path), "the loss is nan\nat step 3")
    found = read(point, tmp_path)
    assert (found.status, found.failure) == ("failed", "the loss is nan at step 3")


def test_a_run_that_ended_after_a_failed_try_is_finished(tmp_path: pathlib.Path) -> None:
    point = only_point()
    note_failure(run_of(point, tmp_path), "killed by signal 9")
    finish(run_of(point, tmp_path), [30.0])
    assert read(point, tmp_path).status == "finished"


def test_a_line_cut_short_is_left_out(tmp_path: pathlib.Path) -> None:
    point = only_point()
    finish(run_of(point, tmp_path), [30.0, 31.0, 32.0])
    log = run_of(point, tmp_path).workdir / "metrics.jsonl"
    log.write_text(log.read_text()[:-20])
    found = read(point, tmp_path)
    assert found.validation[METRIC] == 31.0


def test_means_and_intervals_are_over_the_seeds(tmp_path: pathlib.Path) -> None:
    values = [30.0, 32.0, 33.0, 31.5]
    points = product(sweep(WEIGHT, [0.1, 0.5]), seeds(4))
    results = made(tmp_path, points, lambda p: values[p.config.seed] + p.changes[WEIGHT])
    one, other = results.settings
    assert one.name == f"{WEIGHT}-0.1"
    np.testing.assert_array_equal(one.values(METRIC), np.array(values) + 0.1)
    assert one.mean(METRIC) == pytest.approx(np.mean(values) + 0.1)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert 2 * half_interval(one.values(METRIC)) == pytest.approx(high - low)
    assert other.mean(METRIC) == pytest.approx(np.mean(values) + 0.5)


def test_one_seed_has_no_interval(tmp_path: pathlib.Path) -> None:
    (setting,) = made(tmp_path, [{WEIGHT: 0.1}], lambda point: 30.0).settings
    assert setting.mean(METRIC) == 30.0
    assert np.isnan(half_interval(setting.values(METRIC)))


def test_the_highest_mean_is_chosen_and_of_equals_the_first(tmp_path: pathlib.Path) -> None:
    by_weight = {0.1: 30.0, 0.2: 33.0, 0.5: 33.0, 1.0: 32.0}
    points = product(sweep(WEIGHT, by_weight), seeds(2))
    results = made(tmp_path, points, lambda p: by_weight[p.changes[WEIGHT]] + p.config.seed)
    assert [setting.name for setting in results.choose()] == [f"{WEIGHT}-0.2"]


def test_a_setting_with_a_seed_that_failed_is_not_chosen(tmp_path: pathlib.Path) -> None:
    points = product(sweep(WEIGHT, [0.1, 0.5]), seeds(2))
    lost = f"{WEIGHT}-0.5/seed-1"
    results = made(tmp_path, points, lambda p: None if p.name == lost else 30 + p.changes[WEIGHT])
    sound, cut = results.settings
    assert not cut.finished
    assert cut.mean(METRIC) > sound.mean(METRIC)
    assert results.choose() == [sound]
    assert Results(cut.rows, METRIC).choose() == []
    assert [row.point.name for row in results.failed] == [lost]


def test_one_is_chosen_for_each_value_of_a_field(tmp_path: pathlib.Path) -> None:
    points = product(
        chain(
            sweep("loss.intra", ["none"]),
            product(sweep("loss.intra", ["js", "ii_mse"]), sweep(WEIGHT, [0.1, 0.5])),
        ),
        seeds(2),
    )
    best = {"js": 0.5, "ii_mse": 0.1}
    results = made(
        tmp_path,
        points,
        lambda p: 30.0 + (best.get(p.config.loss.intra) == p.config.loss.weights.music),
    )
    chosen = results.choose(per="loss.intra")
    assert [(one.value("loss.intra"), one.value(WEIGHT)) for one in chosen] == [
        ("none", 0.2),
        ("js", 0.5),
        ("ii_mse", 0.1),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00\n",
        b"12\n",
        b'{"val/v2m/R@10": 3}\n',
        b'{"step": 8, "val/v2m/R@10": "a"}\n',
        b"",
    ],
)
def test_a_damaged_log_of_a_run_is_told(tmp_path: pathlib.Path, content: bytes) -> None:
    point = only_point()
    finish(run_of(point, tmp_path), [30.0, 31.0])
    (run_of(point, tmp_path).workdir / "metrics.jsonl").write_bytes(content)
    found = read(point, tmp_path)
    assert found.status != "unfinished"
    assert found.validation == {}
    assert "metrics.jsonl is damaged" in found.failure


def test_a_single_choice_is_held_against_the_config_as_it_is_or_the_runner_up(
    tmp_path: pathlib.Path,
) -> None:
    config = base_config()
    points = product(sweep(WEIGHT, [config.loss.weights.music, 0.5, 1.0, 2.0]), seeds(2))
    results = made(tmp_path, points, lambda p: 30 + p.changes[WEIGHT])
    as_it_is, _, runner_up, best = results.settings
    assert results.choose() == [best]
    assert results.reference(best, config) is as_it_is
    swept = Results(results.rows[2:], METRIC)
    assert swept.reference(swept.settings[-1], config) == runner_up
    assert Results(best.rows, METRIC).reference(best, config) is None


def test_fields_that_go_together_are_one_axis(tmp_path: pathlib.Path) -> None:
    points = product(
        sweep("loss.intra", ["js", "ii_mse"]),
        sweep((WEIGHT, "loss.weights.video"), [0.1, 0.5]),
        sweep("steps", [9]),
        seeds(2),
    )
    intra, weights, steps = made(tmp_path, points, lambda point: 30.0).axes
    assert (intra.label, intra.varies, intra.numeric) == ("loss.intra", True, False)
    assert (weights.label, weights.varies) == ("loss.weights.{music,video}", True)
    assert weights.numeric
    assert (steps.label, steps.varies) == ("steps", False)


def test_differences_are_taken_seed_by_seed(tmp_path: pathlib.Path) -> None:
    """The seeds' luck, which both settings share, leaves nothing of its scatter in them."""
    points = [*product(sweep(WEIGHT, [0.1, 1.0]), seeds(3)), {WEIGHT: 9.0, "seed": 0}]
    results = made(tmp_path, points, lambda p: 30 + 7 * p.config.seed + p.config.loss.weights.music)
    ((index, values),) = paired_differences(results)  # 9.0 shares one seed alone
    assert index == 1
    np.testing.assert_allclose(values, [0.9] * 3)
