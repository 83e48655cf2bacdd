"""Points of a sweep: checked against the config before anything starts, and named."""

import importlib
import pathlib
import re

import pytest
from made_sweeps import base_config

from vmr.errors import UserError
from vmr.sweeps.points import checked_points, load_sweep, setting_name
from vmr.sweeps.space import Uniform, chain, product, seeds, sweep

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "configs/sweeps").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_every_sweep_file_goes_with_the_config_that_it_names(path: pathlib.Path) -> None:
    found = load_sweep(path)
    command = re.search(r"--config=configs/(\w+)\.py:(\w+)", path.read_text())
    assert command
    assert f"--sweep=configs/sweeps/{path.name}" in path.read_text()
    config = importlib.import_module(f"configs.{command[1]}").get_config(command[2])
    config.dataset.data_dir = "data/made"
    config.lock()
    points = checked_points(found.points, config)
    assert len(points) == len({point.name for point in points}) > 1
    assert found.description.endswith((".", "each."))
    settings = len({point.setting for point in points})
    assert f'"""{settings} settings, {len(points)} runs."""' in path.read_text()


def test_changes_are_in_the_locked_config_and_the_base_stays_as_it_was() -> None:
    base = base_config()
    point, other = checked_points(
        product(sweep("loss.weights.music", [1, 0.25]), sweep("model.video.hidden", [[8, 4]])), base
    )
    assert point.config.is_locked
    assert point.config.loss.weights.music == 1.0
    assert type(point.config.loss.weights.music) is float
    assert type(point.changes["loss.weights.music"]) is float
    assert point.config.model.video.hidden == (8, 4)
    assert other.config.loss.weights.music == 0.25
    assert base.loss.weights.music == 0.2
    assert base.model.video.hidden == (32,)
    assert point.config.loss.weights.video == 0.2


def test_names_are_folders_and_do_not_depend_on_the_rest_of_the_sweep() -> None:
    some = product(sweep("loss.weights.music", [1]), sweep("loss.intra", ["ii_mse"]), seeds(2))
    names = [point.name for point in checked_points(some, base_config())]
    assert names == [f"loss.intra-ii_mse__loss.weights.music-1/seed-{seed}" for seed in (0, 1)]
    more = chain(sweep("loss.weights.music", [0.5, 1e-5]), [{}], some, [{"steps": 9}])
    found = [point.name for point in checked_points(more, base_config())]
    assert set(names) < set(found)
    assert found[1:3] == ["loss.weights.music-1e-05/seed-0", "unchanged/seed-0"]


def test_a_long_or_strange_name_is_cut_and_told_apart_by_its_hash() -> None:
    one = setting_name({"dataset.data_dir": "/data/a b"})
    other = setting_name({"dataset.data_dir": "/data/a_b"})
    assert one != other
    long = {f"field_{number}": number + 0.123456789 for number in range(20)}
    changed = {**long, "field_19": 0.5}
    assert setting_name(long) != setting_name(changed)
    for name in (one, other, setting_name(long)):
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,120}", name)
    assert len(setting_name(long)) == 120


def test_values_that_differ_by_little_have_names_of_their_own() -> None:
    points = checked_points(sweep("loss.weights.music", [0.1, 0.1 + 1e-12]), base_config())
    assert points[0].setting != points[1].setting


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ({"loss.weight.music": 1.0}, "no field 'loss.weight.music'; did you mean 'loss.weights."),
        ({"weights.music": 1.0}, "did you mean 'loss.weights.music'"),
        ({"config.seed": 1}, "no field 'config.seed'; did you mean 'seed'"),
        ({"loss.weights": 1.0}, "a group of that name: loss.weights.m2v"),
        ({"loss.weights.music": "much"}, "is 'much', expected a number, as 0.2"),
        ({"loss.weights.music": True}, "is True, expected a number"),
        ({"batch_size": 3.5}, "batch_size is 3.5, expected a whole number"),
        ({"batch_size": True}, "batch_size is True, expected a whole number"),
        ({"model.linear": 1}, "expected true or false"),
        ({"model.video.hidden": 32}, "expected a tuple of whole numbers"),
        ({"model.video.hidden": ("a",)}, "expected a tuple of whole numbers"),
        ({"dataset.data_dir": None}, "expected text"),
        ({"loss.intra": "ii_mze"}, "did you mean 'ii_mse'"),
        ({"loss.weights.music": -1.0}, "expected at least 0"),
        ({"loss.weights.music": float("nan")}, "expected a finite number"),
        ({"loss.weights.music": {"a": 1}}, "expected a number, text, a list or a tuple"),
    ],
)
def test_a_point_that_cannot_run_is_named_before_anything_starts(
    point: dict, expected: str
) -> None:
    with pytest.raises(UserError) as told:
        checked_points([{"seed": 1}, point], base_config())
    assert expected in str(told.value)
    assert "\n" not in str(told.value)
    field, value = next(iter(point.items()))
    assert str(told.value).startswith(f"point 2 of the sweep, {field}={value}: ")


def test_a_point_that_is_there_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"point 3 .*loss.weights.music=1.0, is there twice"):
        checked_points(
            [{"loss.weights.music": 1}, {"seed": 1}, {"loss.weights.music": 1.0}], base_config()
        )
    with pytest.raises(UserError, match="empty"):
        checked_points([], base_config())


def written(folder: pathlib.Path, text: str) -> pathlib.Path:
    path = folder / "made.py"
    path.write_text(text)
    return path


def test_a_sweep_file_gives_points_and_ranges(tmp_path: pathlib.Path) -> None:
    text = (
        '"""What it asks.\n\nMore."""\n'
        "from vmr.sweeps.space import *\n"
        "def get_sweep():\n    return sweep('a', [1, 2])\n"
    )
    found = load_sweep(written(tmp_path, text))
    assert (found.description, found.points, found.ranges) == (
        "What it asks.",
        [{"a": 1}, {"a": 2}],
        None,
    )
    text += "def get_search():\n    return {'a': uniform(0, 1)}\n"
    assert load_sweep(written(tmp_path, text)).ranges == {"a": Uniform(0.0, 1.0)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "defines no get_sweep"),
        ("get_sweep = 3", "defines no get_sweep"),
        ("x = 1\ndef get_sweep(:\n", "line 2: SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "line 1: ModuleNotFoundError"),
        ("def get_sweep():\n    return 1 / 0", "line 2: ZeroDivisionError: division by zero"),
        ("def get_sweep():\n    return []", "returns no points"),
        ("def get_sweep():\n    return {'a': 1}", "expected a list of dicts"),
        ("def get_sweep():\n    return [{1: 1}]", "expected a list of dicts"),
        ("def get_sweep():\n    return None", "returns None, expected a list of dicts"),
        (
            "from vmr.sweeps.space import sweep\ndef get_sweep():\n    return sweep('a', [])",
            "the sweep of a has no values",
        ),
        (
            "def get_sweep():\n    return [{'a': 1}]\ndef get_search():\n    return {'a': 3}",
            "expected a dict from field to log_uniform",
        ),
    ],
)
def test_a_sweep_file_that_fails_is_told_in_one_line(
    tmp_path: pathlib.Path, text: str, expected: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as told:
        load_sweep(path)
    assert str(told.value).startswith(str(path))
    assert expected in str(told.value)
    assert "\n" not in str(told.value)


def test_a_sweep_file_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"none\.py: does not exist"):
        load_sweep(tmp_path / "none.py")
    with pytest.raises(UserError, match="is a folder"):
        load_sweep(tmp_path)
