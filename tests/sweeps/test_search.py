"""A search: stopped anywhere it goes on as if it had not been, and what fails is passed over."""

import pathlib
import sys
from collections.abc import Callable, Sequence

import ml_collections
import pytest
from made_sweeps import METRIC, base_config, finish

from vmr.errors import UserError
from vmr.sweeps import search as searching
from vmr.sweeps.jobs import note_failure, run_of
from vmr.sweeps.points import SweepPoint
from vmr.sweeps.results import Results, row_of
from vmr.sweeps.search import SearchSpace, choices_of, search
from vmr.sweeps.space import (
    Choice,
    Fields,
    Range,
    chain,
    choice,
    log_uniform,
    product,
    seeds,
    sweep,
    uniform,
)
from vmr.training.grid import Run

BOTH = ("loss.weights.music", "loss.weights.video")
RANGES: dict[Fields, Range] = {
    BOTH: log_uniform(0.01, 10.0),
    "loss.ranking.margin": uniform(0.0, 1.0),
    "model.video.hidden": choice([(32,), (16, 16)]),
}


class Killed(BaseException):
    """Stands for a kill: nothing gets to clean up."""


class Training:
    """Writes what runs leave, a score a run; notes which it was given."""

    def __init__(self, workdir: pathlib.Path, score: Callable[[Run], float | None]) -> None:
        self.workdir, self.score = workdir, score
        self.trained: list[str] = []
        self.dies_after = sys.maxsize  # runs

    def __call__(self, runs: Sequence[Run]) -> None:
        for run in runs:
            if len(self.trained) == self.dies_after:
                raise Killed
            name = str(run.workdir.relative_to(self.workdir / "points"))
            score = self.score(run)
            if score is None:
                note_failure(run, "loss nan")
            elif not run.workdir.exists():
                self.trained.append(name)
                finish(run, [score])


def far_from_the_best(run: Run) -> float:
    """The best weight is 1, the best margin 0.5; a seed more is a point more."""
    weight, margin = run.config.loss.weights.music, run.config.loss.ranking.margin
    width = len(run.config.model.video.hidden)
    return 50 - abs(weight - 1) - 20 * abs(margin - 0.5) + width + run.config.seed


def space(config: ml_collections.ConfigDict | None = None, **others: Range) -> SearchSpace:
    return SearchSpace(config or base_config(), {**RANGES, **others}, (0, 1))


def names(points: Sequence[SweepPoint]) -> list[str]:
    return [point.name for point in points]


def best_of(points: Sequence[SweepPoint], workdir: pathlib.Path) -> float:
    rows = tuple(row_of(point, run_of(point, workdir)) for point in points)
    return max(setting.mean(METRIC) for setting in Results(rows, METRIC).settings)


def test_it_learns_from_what_was_tried(tmp_path: pathlib.Path) -> None:
    points = search(space(), 28, tmp_path, Training(tmp_path, far_from_the_best))
    assert len(points) == 56
    # The first ten are drawn at random.
    first, last = points[:20], points[-20:]
    assert best_of(points, tmp_path) > best_of(first, tmp_path)
    assert best_of(points, tmp_path) > 50.5  # of 52.5 at the optimum
    margins = [
        [abs(point.config.loss.ranking.margin - 0.5) for point in part] for part in (first, last)
    ]
    assert sum(margins[1]) < sum(margins[0])


def test_trials_are_points_of_a_sweep(tmp_path: pathlib.Path) -> None:
    points = search(space(), 6, tmp_path, Training(tmp_path, far_from_the_best))
    assert [point.config.seed for point in points] == [0, 1] * 6
    for point in points:
        weights, margin = point.config.loss.weights, point.config.loss.ranking.margin
        assert weights.music == weights.video
        assert 0.01 <= weights.music <= 10
        assert 0 <= margin <= 1
        assert margin == float(f"{margin:.4g}")
        assert point.config.model.video.hidden in {(32,), (16, 16)}
        assert (tmp_path / "points" / point.name).is_dir()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """Trials at once -> the names of the points of twelve trials, the last two of which learn."""
    expected = {}
    for at_once in (1, 3):
        train = Training(tmp_path_factory.mktemp("whole"), far_from_the_best)
        expected[at_once] = names(search(space(), 12, train.workdir, train, at_once))
    return expected


@pytest.mark.parametrize("at_once", [1, 3])
def test_stopped_anywhere_it_ends_as_if_it_had_not_been(
    tmp_path: pathlib.Path, at_once: int, uninterrupted: dict[int, list[str]]
) -> None:
    cut = Training(tmp_path, far_from_the_best)
    for runs in (1, 10, 19):
        cut.dies_after = runs
        with pytest.raises(Killed):
            search(space(), 12, tmp_path, cut, at_once)
    cut.dies_after = sys.maxsize
    search(space(), 11, tmp_path, cut, at_once)
    reached = names(search(space(), 12, tmp_path, cut, at_once))
    assert reached[:22] == uninterrupted[at_once][:22]
    if at_once == 1:  # the boundaries of the batches are the same
        assert reached == uninterrupted[at_once]
    assert len(cut.trained) == len(set(cut.trained)) == 24


def test_stopped_while_a_batch_is_told_it_goes_on_in_the_same_way(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: dict[int, list[str]],
) -> None:
    train = Training(tmp_path, far_from_the_best)
    told, count = searching._end, 0

    def dies_in_between(*arguments: object) -> str:
        nonlocal count
        count += 1
        if count == 9:  # in the middle of the third batch, of which two trials are left
            raise Killed
        return told(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(searching, "_end", dies_in_between)
        with pytest.raises(Killed):
            search(space(), 12, tmp_path, train, 3)
    assert names(search(space(), 12, tmp_path, train, 3)) == uninterrupted[3]


def test_what_fails_is_told_and_the_rest_goes_on(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    def fails_at_high_margins(run: Run) -> float | None:
        return None if run.config.loss.ranking.margin > 0.6 else far_from_the_best(run)

    train = Training(tmp_path, fails_at_high_margins)
    points = search(space(), 12, tmp_path, train)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    failed = [line for line in lines if "failed: loss nan" in line]
    assert 0 < len(failed) < 12
    assert len(points) == 24
    before = list(train.trained)
    search(space(), 12, tmp_path, train)
    assert train.trained == before
    assert not capsys.readouterr().out


def test_values_that_do_not_go_together_fail_their_trial(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    encoders: dict[Fields, Range] = {
        "model.video.encoder": choice(["branch", "transformer"]),
        "model.text.fusion": choice(["none", "tokens"]),
    }
    searched = SearchSpace(base_config(), encoders, (0,))
    train = Training(tmp_path, lambda run: 30.0)
    points = search(searched, 12, tmp_path, train)
    assert "failed: " in (told := capsys.readouterr().out)
    assert "tokens needs config.model.video.encoder=transformer" in told
    # Settings that were tried twice were trained once.
    assert len(points) == len(train.trained) == 3


def test_a_search_over_other_ranges_is_left_alone(tmp_path: pathlib.Path) -> None:
    train = Training(tmp_path, far_from_the_best)
    search(space(), 2, tmp_path, train)
    wider = space(**{"loss.ranking.margin": uniform(0.0, 2.0)})
    with pytest.raises(UserError, match=r"over other ranges or seeds: .*1\.0.* there.*2\.0"):
        search(wider, 4, tmp_path, train)
    assert len(search(space(), 3, tmp_path, train)) == 6


def test_a_damaged_database_is_told_and_left_as_it_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "search.db").write_text("no database at all" * 100)
    with pytest.raises(UserError, match=r"search\.db cannot be read") as mistake:
        search(space(), 2, tmp_path, Training(tmp_path, far_from_the_best))
    assert "\n" not in str(mistake.value)
    assert (tmp_path / "search.db").read_text().startswith("no database")


def test_without_optuna_nothing_starts(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[search\]'"):
        search(space(), 2, tmp_path / "search", Training(tmp_path, far_from_the_best))
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"loss.weights.musik": uniform(0, 1)}, "no field 'loss.weights.musik'"),
        ({"loss.intra": choice(["js", "jss"])}, "config.loss.intra is 'jss'"),
        ({"model.dropout": uniform(0, 1)}, "dropout is 1.0, expected in"),
        ({"seed": choice([3, 4])}, "seed is 3 and 0"),
        (
            {"loss.weights.music": uniform(0, 1), BOTH: uniform(2, 3)},
            "weights.music is 0.0 and 2.0",
        ),
        ({}, "no ranges"),
    ],
)
def test_a_range_that_cannot_be_is_told_before_anything_starts(
    ranges: dict[Fields, Range], message: str, tmp_path: pathlib.Path
) -> None:
    searched = SearchSpace(base_config(), ranges, (0, 1))
    with pytest.raises(UserError, match=message):
        search(searched, 2, tmp_path / "search", Training(tmp_path, far_from_the_best))
    assert not (tmp_path / "search").exists()


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
