"""Soups: the mean of the parameters of models that were fine-tuned from one start."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from front_doors import run as run_command
from front_doors import succeed
from test_formats_of_runs import KEPT

import vmr
from vmr.errors import UserError
from vmr.runs import model_folder
from vmr.runs.model import Model, model_of_run
from vmr.runs.soup import soup

START = {"init_from": {"fingerprint": "5" * 64, "step": 3}}


@pytest.fixture(scope="module")
def model() -> Model:
    known = model_of_run(KEPT)
    return dataclasses.replace(known, data={**known.data, **START})


def changed(model: Model, by: float) -> Model:
    """The model with all parameters and batch statistics moved."""
    like = model.trained
    moved = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(by), like.params)
    stats = jax.tree.map(lambda leaf: np.asarray(leaf) + np.float32(by), like.batch_stats)
    trained = dataclasses.replace(like, params=moved, batch_stats=stats)
    return dataclasses.replace(model, trained=trained, step=model.step + round(by))


@pytest.fixture
def folders(model: Model, tmp_path: pathlib.Path) -> Callable[..., list[pathlib.Path]]:
    """Writes models into folders of their own."""

    def written(*models: Model) -> list[pathlib.Path]:
        paths = [tmp_path / f"model{n}" for n in range(len(models))]
        for one, path in zip(models, paths, strict=True):
            model_folder.write(one, path)
        return paths

    return written


def test_the_parameters_are_the_mean(model: Model, folders: Any, tmp_path: pathlib.Path) -> None:
    paths = folders(model, changed(model, 1), changed(model, 5))
    output = tmp_path / "soup"
    flag = f"--soup={','.join(map(str, paths))}"
    assert "mean of 3 models" in succeed("experiments.export", flag, f"--model={output}")
    mean = vmr.load(output)
    assert isinstance(mean, Model)
    for found, expected in (
        (mean.trained.params, changed(model, 2).trained.params),
        (mean.trained.batch_stats, changed(model, 2).trained.batch_stats),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    jax.tree.map(
        np.testing.assert_array_equal, mean.trained.standardization, model.trained.standardization
    )
    assert mean.step == model.step + 5
    assert {leaf.dtype for leaf in jax.tree.leaves(mean.trained.params)} == {np.dtype(np.float32)}
    card = (output / "README.md").read_text()
    assert "the mean of those of 3 models" in card
    for path in paths:
        assert vmr.load(path).fingerprint in card


def test_another_dataset_is_told(model: Model, folders: Any, tmp_path: pathlib.Path) -> None:
    other = changed(model, 1)
    other = dataclasses.replace(other, data={**other.data, "fingerprint": "7" * 64})
    model_folder.write(soup(folders(model, other)), tmp_path / "soup")
    assert f"trained on: `{'7' * 64}`" in (tmp_path / "soup" / "README.md").read_text()


def without_start(model: Model) -> Model:
    return dataclasses.replace(
        model, data={key: value for key, value in model.data.items() if key != "init_from"}
    )


def of_another_start(model: Model) -> Model:
    start = {"init_from": {"fingerprint": "6" * 64, "step": 3}}
    return dataclasses.replace(model, data={**model.data, **start})


def standardised_otherwise(model: Model) -> Model:
    moved = jax.tree.map(lambda leaf: leaf * np.float32(2), dict(model.trained.standardization))
    trained = dataclasses.replace(model.trained, standardization=moved)
    return dataclasses.replace(model, trained=trained)


def built_otherwise(model: Model) -> Model:
    config = model.config.copy_and_resolve_references()
    config.model.dropout = 0.75
    return dataclasses.replace(model, config=config)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_start, "started from 555555555555 and .* afresh, expected one model"),
        (of_another_start, "started from 555555555555 and .* from 666666666666"),
        (standardised_otherwise, "standardise their inputs differently"),
        (built_otherwise, r"differ: config.model.dropout is .* there and 0.75 here"),
    ],
)
def test_models_that_have_no_mean_are_refused(
    model: Model, folders: Any, change: Callable[[Model], Model], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        soup(folders(model, change(changed(model, 1))))


def test_a_model_counts_once(model: Model, folders: Any) -> None:
    with pytest.raises(UserError, match="are the same model"):
        soup(folders(model, model))


def test_mistakes_are_one_line(tmp_path: pathlib.Path) -> None:
    for flags, expected in (
        (["--soup=a", f"--model={tmp_path}/x"], "expected the folders of at least two models"),
        (["--soup=a,", f"--model={tmp_path}/x"], "expected the folders of at least two models"),
        (["--soup=a,b", f"--output={tmp_path}/x.npz"], "--soup makes a model: give --model=DIR"),
        (["--soup=", f"--model={tmp_path}/x"], "--soup= is empty"),
        (["--soup=gone,b", f"--model={tmp_path}/x"], "gone: no such folder"),
    ):
        done = run_command("experiments.export", *flags)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert expected in done.stderr
    assert not list(tmp_path.iterdir())
