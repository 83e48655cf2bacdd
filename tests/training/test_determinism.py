"""Deterministic operations: how they are asked for, and what a run's folder says of them."""

import os
import pathlib

import front_doors
import pytest

from vmr.disk import read_json, write_json
from vmr.errors import UserError
from vmr.training import determinism
from vmr.training.run_dir import environment

FLAG = "--xla_gpu_deterministic_ops"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{FLAG}=true"),
        ("--xla_dump_to=/a", f"--xla_dump_to=/a {FLAG}=true"),
        (FLAG, FLAG),
        (f"{FLAG}=false {FLAG}=True", f"{FLAG}=false {FLAG}=True"),
        (f"{FLAG}_of_another=false", f"{FLAG}_of_another=false {FLAG}=true"),
    ],
)
def test_the_flag_joins_those_of_the_user(
    before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", before)
    determinism.ask()
    determinism.ask()
    assert os.environ["XLA_FLAGS"] == after
    assert determinism.is_asked()


def test_the_opposite_is_refused_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", f"{FLAG}=false")
    assert not determinism.is_asked()
    with pytest.raises(UserError, match=r"XLA_FLAGS has --xla_gpu_deterministic_ops=false: leave"):
        determinism.ask()
    assert os.environ["XLA_FLAGS"] == f"{FLAG}=false"


@pytest.mark.parametrize("module", ["experiments.train", "experiments.sweep"])
def test_commands_ask_before_anything_else(
    module: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XLA_FLAGS", f"{FLAG}=false")
    sweep = ["--sweep=configs/sweeps/intra_losses.py"] if module.endswith("sweep") else []
    config = ["--config=configs/vmnet.py:runlocal", f"--workdir={tmp_path / 'run'}"]
    done = front_doors.run(module, *config, *sweep, "--deterministic")
    assert done.returncode == 1
    assert done.stderr.startswith("error: --deterministic is given, but XLA_FLAGS has ")
    assert not (tmp_path / "run").exists()


def test_the_effect_is_told_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "")
    assert not determinism.effect("gpu")
    monkeypatch.setenv("XLA_FLAGS", FLAG)
    assert "at some cost in speed" in determinism.effect("gpu")
    assert "no effect on a cpu" in determinism.effect("cpu")


def test_the_note_of_a_run_is_true_of_all_its_steps(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "environment.json"

    def noted(begun: str, resumed: str) -> bool:
        monkeypatch.setenv("XLA_FLAGS", begun)
        write_json(path, environment({"fingerprint": "0" * 64}))
        monkeypatch.setenv("XLA_FLAGS", resumed)
        determinism.note_resumed(tmp_path)
        return read_json(path)["deterministic"]

    assert noted(FLAG, FLAG)
    assert not noted("", "")
    assert not noted("", FLAG)
    assert not capsys.readouterr().out
    assert not noted(FLAG, "")
    assert capsys.readouterr().out.endswith(
        "deterministic was true, is now false: no --deterministic\n"
    )
    assert read_json(path)["dataset_fingerprint"] == "0" * 64
    write_json(path, {"dataset_fingerprint": "0" * 64})  # of a run from before there was a note
    determinism.note_resumed(tmp_path)
    assert "deterministic" not in read_json(path)
