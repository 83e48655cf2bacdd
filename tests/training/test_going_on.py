"""A run goes on under what of its config may change, and under nothing else."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from runs import ONE, Trained, assert_identical, scalars

from vmr.errors import UserError
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.progress import is_finished


def saved(workdir: pathlib.Path) -> dict[str, Any]:
    return json.loads((workdir / "config.json").read_text())


def test_a_finished_run_goes_on_as_if_it_had_been_longer(
    run_of: Callable[[str], Trained], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of("vmnet:runlocal")
    extended = shutil.copytree(run.workdir, tmp_path / "extended")
    config = run.config.copy_and_resolve_references()
    config.update({"steps": 12, "patience": 9, "log_every": 3, "eval_every": 6})
    config.checkpoint_every = 5
    whole = loop.train(config, tmp_path / "whole", ONE)
    capsys.readouterr()
    assert_identical(loop.train(config, extended, ONE), whole)
    told = "config.patience was 0, is now 9; config.steps was 8, is now 12"
    assert told in capsys.readouterr().out
    assert saved(extended) == saved(tmp_path / "whole")
    assert scalars(extended)[-1] == scalars(tmp_path / "whole")[-1]
    assert [line["step"] for line in scalars(extended)] == [*range(1, 9), 9, 12]
    assert is_finished(extended)


def test_where_the_data_lie_may_change(
    run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    run = run_of("vmnet:runlocal")
    copy = shutil.copytree(run.workdir, tmp_path / "copy")
    config = run.config.copy_and_resolve_references()
    moved = shutil.copytree(config.dataset.data_dir, tmp_path / "moved")
    config.dataset.update({"data_dir": str(moved), "allow_invalid": True, "name": "made"})
    loop.train(config, copy, ONE)
    assert saved(copy)["dataset"] == dict(config.dataset)
    assert restore_run(copy).dataset.data_dir == moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "config.seed is 0 there and 1 here"),
        ({"steps": 7}, "config.steps is 8 there and 7 here, but 8 steps are taken"),
        ({"loss.block_rows": 8, "patience": 3}, "config.loss.block_rows is 0 there and 8 here"),
        ({"microbatch": 16}, "config.microbatch is 0 there and 16 here"),
        ({"selection": "v2m/R@1"}, "config.selection is 'v2m/R@10' there and 'v2m/R@1' here"),
        ({"dataset.train_share": 0.9}, "config.dataset.train_share is 1.0 there and 0.9 here"),
    ],
)
def test_what_numbers_depend_on_may_not(
    run_of: Callable[[str], Trained],
    tmp_path: pathlib.Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    run = run_of("vmnet:runlocal")
    copy = shutil.copytree(run.workdir, tmp_path / "copy")
    before = saved(copy)
    config = run.config.copy_and_resolve_references()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as raised:
        loop.train(config, copy, ONE)
    assert message in str(raised.value)
    assert "patience" not in str(raised.value)
    assert saved(copy) == before


def test_the_steps_of_a_cosine_schedule_may_not_change(
    run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    run = run_of("ii_clvm:runlocal")
    copy = shutil.copytree(run.workdir, tmp_path / "copy")
    config = run.config.copy_and_resolve_references()
    config.steps = 12
    with pytest.raises(UserError, match=r"steps is 8 there and 12 here; only under .*=constant"):
        loop.train(config, copy, ONE)
    assert saved(copy)["steps"] == 8
