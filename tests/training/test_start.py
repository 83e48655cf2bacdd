"""Runs that start from what another has trained."""

import json
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import pytest
from runs import ONE, Trained, config_of

import vmr
from vmr.errors import UserError
from vmr.runs import model_folder
from vmr.runs.model import model_of_run
from vmr.training import loop
from vmr.training.build import build_state
from vmr.training.start import first_state, start_of
from vmr.training.trained import arrays_of, read_saved

RunOf = Callable[[str], Trained]


def not_measured() -> dict:
    raise AssertionError("the statistics of the inputs are those of the start")


# Two Transformers, and two branches with batch normalisation.
@pytest.mark.parametrize("name", ["ii_clvm:runlocal", "vmnet:runlocal"])
def test_a_run_starts_from_a_run_and_from_the_model_made_of_it(
    name: str, run_of: RunOf, tmp_path: pathlib.Path
) -> None:
    before = run_of(name)
    model_folder.write(model_of_run(before.workdir), tmp_path / "model")
    config = before.config.copy_and_resolve_references()
    config.optimizer.average_decay = 0.5
    config.seed = 7
    for folder in (before.workdir, tmp_path / "model"):
        config.init_from = str(folder)
        start = start_of(config, tmp_path / "new")
        assert start is not None
        widths = {side: len(of["mean"]) for side, of in start.trained.standardization.items()}
        state = first_state(config, start, widths, not_measured)
        assert int(state.step) == 0
        expected = arrays_of(vmr.load(before.workdir).trained)
        found = arrays_of(state.trained)  # of the average
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        fresh = build_state(config, start.trained.standardization)
        np.testing.assert_array_equal(state.key, fresh.key)


def test_training_goes_on_from_there_and_says_so(run_of: RunOf, workdir: pathlib.Path) -> None:
    before = run_of("vmnet:runlocal")
    config = before.config.copy_and_resolve_references()
    config.init_from = str(before.workdir)
    config.optimizer.learning_rate = 0.0
    loop.train(config, workdir, ONE)
    start = read_saved(before.workdir)
    params = "params/video_encoder/"
    for name, array in arrays_of(read_saved(workdir).trained).items():
        if name.startswith((params, "standardization")):
            np.testing.assert_array_equal(array, arrays_of(start.trained)[name], err_msg=name)
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["init_from"] == start.account
    model = model_of_run(workdir)
    assert model.data["init_from"] == {"fingerprint": start.fingerprint, "step": start.step}
    assert start.fingerprint in model_folder.card(model, {})
    # A run that goes on needs its start no longer.
    config.init_from = json.loads((workdir / "config.json").read_text())["init_from"]
    assert start_of(config, workdir) is None


def test_another_encoder_other_widths_and_no_run_are_refused(
    run_of: RunOf, tmp_path: pathlib.Path
) -> None:
    before = run_of("vmnet:runlocal")
    config = before.config.copy_and_resolve_references()
    config.init_from = str(before.workdir)
    start = start_of(config, tmp_path)
    assert start is not None
    widths = {side: len(of["mean"]) for side, of in start.trained.standardization.items()}
    config.model.embedding_width *= 2
    with pytest.raises(UserError, match=r"is of shape \(.*\) there and of shape .* same encoders"):
        first_state(config, start, widths, not_measured)
    with pytest.raises(UserError, match="reads video features of width"):
        first_state(config, start, {**widths, "video": 3}, not_measured)
    other = config_of("ii_clvm:runlocal", config.dataset.data_dir)
    with pytest.raises(UserError, match="absent in this config"):
        first_state(other, start, widths, not_measured)
    for folder in ("nowhere", str(tmp_path)):
        config.init_from = folder
        with pytest.raises(UserError, match=f"^config.init_from={folder}: "):
            start_of(config, tmp_path)
