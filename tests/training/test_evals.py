"""What a run measures beside its losses, when it is asked to: evaluations by name, a profile."""

import pathlib

import ml_collections
import pytest
from runs import ONE, scalars

from vmr.errors import UserError
from vmr.training import loop
from vmr.training.config import require_sound
from vmr.training.profiling import steps_of


def test_evaluations_go_by_name_and_some_steps_are_traced(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.evals = ("recalls", "geometry", "hubness")
    config.update({"steps": 4, "log_every": 1})
    loop.train(config, workdir, ONE, profile=(2, 3))
    last = scalars(workdir)[-1]
    assert {"val/v2m/R@10", "val/geometry/modality_gap", "val/geometry/video/uniformity"} <= set(
        last
    )
    assert last["val/hubness/k"] == 10
    assert list((workdir / "profile").rglob("*.xplane.pb"))
    assert f"profile written to {workdir / 'profile'}" in capsys.readouterr().out


@pytest.mark.parametrize("names", [(), ("geometry",), ("recalls", "recalls"), ("recalls", "hub")])
def test_evaluations_that_there_are_not_are_told(
    config: ml_collections.ConfigDict, names: tuple[str, ...]
) -> None:
    config.evals = names
    with pytest.raises(UserError, match=r"config\.evals is .*, expected recalls and, if any"):
        require_sound(config)


@pytest.mark.parametrize("text", ["", "3", "5:4", "0:2", "a:b", "1:2:3", "-1:2"])
def test_a_profile_of_no_steps_is_told(text: str) -> None:
    with pytest.raises(UserError, match=f"--profile={text}: expected FROM:TO"):
        steps_of(text)


def test_a_profile_of_steps_that_are_never_taken_is_told(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    with pytest.raises(UserError, match="steps 7 to 9, but the run ends at step 8"):
        loop.train(config, workdir, ONE, profile=(7, 9))
