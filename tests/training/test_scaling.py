"""Recall against training pairs: the law that is fitted, what it foretells, the command."""

import pathlib

import front_doors
import numpy as np
import pytest
from runs import ONE, Trained, smoke_config
from scipy import special

from vmr.errors import UserError
from vmr.runs import compare, scaling
from vmr.runs.scaling import Curve
from vmr.training import loop

SHARES = (0.25, 0.5)


@pytest.fixture(scope="module")
def series(
    data_dir: str, smoke_run: Trained, tmp_path_factory: pytest.TempPathFactory
) -> list[pathlib.Path]:
    """Runs on a quarter of the pairs, on half of them and on all."""
    folders = []
    for share in SHARES:
        config = smoke_config(data_dir)
        config.dataset.train_share = share
        folders.append(tmp_path_factory.mktemp("share") / f"run_{share}")
        loop.train(config, folders[-1], ONE)
    return [*folders, smoke_run.workdir]


def curve_of(pairs: list[int], shares: np.ndarray) -> Curve:
    return Curve(np.array(pairs), np.ones(len(pairs), int), shares)


def test_the_law_finds_the_line_that_made_the_points():
    pairs = np.array([1_000, 3_000, 10_000, 40_000])
    intercepts, slopes = np.array([-5.0, -4.0]), np.array([0.4, 0.3])
    shares = special.expit(intercepts + slopes * np.log(pairs)[:, None])
    law = scaling.fit(pairs, shares)
    np.testing.assert_allclose(law, [intercepts, slopes], rtol=1e-9)
    np.testing.assert_allclose(
        scaling.at(law, 200_000), special.expit(intercepts + slopes * np.log(200_000)), rtol=1e-9
    )
    curve = curve_of([1_000, 3_000, 10_000, 40_000], shares)
    np.testing.assert_allclose(curve.largest_foretold(), shares[-1], rtol=1e-9)


def test_two_points_fit_any_line_and_three_leave_none_to_check():
    two = curve_of([10, 20], np.full((2, 5), 0.5))
    assert two.law is None
    assert two.foretold(100) is None
    three = curve_of([10, 20, 40], np.full((3, 5), 0.5))
    np.testing.assert_allclose(three.foretold(100), 0.5)
    assert three.largest_foretold() is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_recall_of_nothing_or_of_all_has_a_law_without_infinity(share: float):
    assert np.isfinite(scaling.fit(np.array([10, 20, 40]), np.full((3, 4), share))).all()


def test_the_points_are_the_recalls_of_the_runs(series: list[pathlib.Path]):
    curves = scaling.curves_of({"planted": series}, "test", samples=100)["planted"]
    for direction, curve in curves.items():
        assert curve.seeds.tolist() == [1, 1, 1]
        assert (np.diff(curve.pairs) > 0).all()
        for row, path in zip(curve.shares, series, strict=True):
            values = compare.score_run(path, "test").values[direction]["R@10"]
            assert row[0] == pytest.approx(values.mean() / 100)
            assert np.ptp(row[1:]) > 0


def test_runs_of_one_number_of_pairs_are_seeds_of_one_point(
    series: list[pathlib.Path], data_dir: str, tmp_path: pathlib.Path
):
    config = smoke_config(data_dir)
    config.seed = 1
    loop.train(config, tmp_path / "seed_1", ONE)
    curves = scaling.curves_of({"planted": [*series, tmp_path / "seed_1"]}, "test", samples=100)
    curve = curves["planted"]["v2m"]
    assert curve.seeds.tolist() == [1, 1, 2]
    both = [
        compare.score_run(path, "test").values["v2m"]["R@10"].mean()
        for path in (series[-1], tmp_path / "seed_1")
    ]
    assert curve.shares[-1, 0] == pytest.approx(np.mean(both) / 100)


def test_the_command_prints_and_writes_table_words_and_plot(
    series: list[pathlib.Path], tmp_path: pathlib.Path
):
    runs = "+".join(map(str, series))
    out = front_doors.succeed(
        *("experiments.scaling", "--split=test", f"--runs=planted={runs}", "--pairs=5000"),
        *("--samples=100", f"--output={tmp_path / 'curve.png'},{tmp_path / 'curve.md'}"),
    )
    assert "5,000 pairs would give" in out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "curve.md").read_text()
    assert table.count("| planted |") == 3
    assert "log-odds rise by" in table


def test_mistakes_are_told_in_a_line(series: list[pathlib.Path], tmp_path: pathlib.Path):
    done = front_doors.run("experiments.scaling", f"--runs={series[0]}", "--output=curve.pdf")
    assert done.returncode == 1
    assert "expected a name that ends in .png or .md" in done.stderr
    with pytest.raises(UserError, match="expected a recall, R@1"):
        scaling.curves_of({"planted": series}, "test", "MedR")
    (tmp_path / "embeddings.npz").write_bytes(b"")
    with pytest.raises(UserError, match="is no run's folder"):
        scaling.curves_of({"planted": [tmp_path / "embeddings.npz"]}, "test")


def test_a_run_twice_is_no_second_seed(tmp_path: pathlib.Path):
    (tmp_path / "run").mkdir()
    twice = [tmp_path / "run", tmp_path / "other" / ".." / "run"]
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="run is there twice in planted, expected each run once"):
        scaling.curves_of({"planted": twice}, "test")


def test_a_model_without_its_run_tells_no_number_of_pairs(tmp_path: pathlib.Path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is no run's folder"):
        scaling.curves_of({"planted": [tmp_path]}, "test")
