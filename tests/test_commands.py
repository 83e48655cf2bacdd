"""The commands as a user types them: one whole way through, and what mistakes are answered."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from front_doors import run, succeed

from vmr.evaluation import tiles

ROOT = pathlib.Path(__file__).parents[1]
RUNLOCAL = "--config=configs/vmnet.py:runlocal"


def start(module: str, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", module, *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
    )


def succeed_apart(module: str, *flags: str) -> str:
    """The output of a command that must end well, in a process of its own."""
    process = start(module, *flags)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def kill_once(ready: Callable[[], object], process: subprocess.Popen) -> None:
    """Kills a process with 9 as soon as what is waited for is there."""
    deadline = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A dataset, a run on it, and the embeddings of its test split."""
    folder = tmp_path_factory.mktemp("commands")
    succeed(
        "tools.build_dataset",
        "--source=planted",
        "--videos=300",
        "--tracks=200",
        f"--output={folder}/data",
    )
    data_flag = f"--config.dataset.data_dir={folder}/data"
    succeed("experiments.train", RUNLOCAL, data_flag, f"--workdir={folder}/run")
    succeed(
        "experiments.export",
        f"--workdir={folder}/run",
        "--split=test",
        f"--output={folder}/embeddings.npz",
    )
    return folder


@pytest.mark.slow
def test_a_run_and_its_exported_embeddings_score_alike(folder: pathlib.Path) -> None:
    printed = succeed(
        "experiments.evaluate", f"--workdir={folder}/run", "--split=test", "--baseline=cca"
    )
    assert "R@10" in printed
    assert "CCA" in printed
    succeed(
        "experiments.evaluate",
        f"--embeddings={folder}/embeddings.npz",
        f"--output={folder}/again.json",
    )
    of_run = json.loads((folder / "run" / "results" / "test.json").read_text())
    of_file = json.loads((folder / "again.json").read_text())
    assert of_run.keys() >= {"split", "step", "queries", "gallery", "v2m", "m2v", "chance", "ci95"}
    for way in ("v2m", "m2v"):
        assert of_run[way] == of_file[way]
        assert of_run["ci95"][way] == of_file["ci95"][way]
    with np.load(folder / "embeddings.npz", allow_pickle=False) as arrays:
        assert len(arrays["video_emb"]) == of_run["queries"]
        assert len(arrays["music_emb"]) == of_run["gallery"]
        meta = json.loads(str(arrays["meta"]))
    assert meta.keys() >= {"schema_version", "config", "step", "dataset_fingerprint", "created"}


@pytest.mark.slow
def test_a_run_corrects_hubness_as_its_exported_embeddings_do(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bank is the training split of its dataset, and settings are chosen on validation."""
    monkeypatch.setattr(tiles, "TILE", 128)
    for split in ("train", "validation"):
        output = f"--output={folder}/{split}.npz"
        succeed("experiments.export", f"--workdir={folder}/run", f"--split={split}", output)
    corrections = "--hubness=nnn,qb_norm"
    succeed(
        *("experiments.evaluate", f"--workdir={folder}/run", "--split=test", corrections),
        f"--output={folder}/of_run.json",
    )
    succeed(
        *("experiments.evaluate", f"--embeddings={folder}/embeddings.npz", corrections),
        *(f"--bank={folder}/train.npz", f"--validation={folder}/validation.npz"),
        f"--output={folder}/of_file.json",
    )
    of_run, of_file = (
        json.loads((folder / f"of_{name}.json").read_text())["hubness"] for name in ("run", "file")
    )
    assert of_run == of_file
    assert of_run.keys() == {"bank", "nnn", "qb_norm"}
    done = run("experiments.evaluate", f"--workdir={folder}/run", "--split=train", corrections)
    assert done.returncode == 1
    assert "--hubness learns the hubs from the split 'train'" in done.stderr


@pytest.mark.slow
def test_results_are_written_whatever_the_terminal_can_show(folder: pathlib.Path) -> None:
    """And a later look without the baseline leaves what was measured of it."""
    output = folder / "ascii.json"
    module = [sys.executable, "-m", "experiments.evaluate", f"--embeddings={folder}/embeddings.npz"]
    flags = [f"--output={output}", "--baseline=cca", f"--data_dir={folder}/data"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "POSIX"}
    done = subprocess.run([*module, *flags], cwd=ROOT, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"video ? music" in done.stdout
    found = json.loads(output.read_text())
    assert found["baselines"].keys() == {"CCA"}
    succeed("experiments.evaluate", f"--embeddings={folder}/embeddings.npz", f"--output={output}")
    assert json.loads(output.read_text()) == found


@pytest.mark.slow
def test_kill_9_loses_nothing(folder: pathlib.Path) -> None:
    flags = (RUNLOCAL, f"--config.dataset.data_dir={folder}/data", "--config.steps=12")
    flags += ("--config.checkpoint_every=1", "--config.log_every=1", "--config.eval_every=3")
    succeed_apart("experiments.train", *flags, f"--workdir={folder}/whole")
    log = folder / "killed" / "metrics.jsonl"
    kill_once(
        lambda: log.exists() and log.read_text().count("\n") > 3,
        start("experiments.train", *flags, f"--workdir={folder}/killed"),
    )
    succeed_apart("experiments.train", *flags, f"--workdir={folder}/killed")

    def losses(run: str) -> list[tuple[int, float]]:
        text = (folder / run / "metrics.jsonl").read_text()
        return [(line["step"], line["train/loss"]) for line in map(json.loads, text.splitlines())]

    assert losses("killed") == losses("whole")
    for run_name in ("killed", "whole"):
        succeed("experiments.evaluate", f"--workdir={folder}/{run_name}")
    killed, whole = (
        json.loads((folder / name / "results" / "validation.json").read_text())
        for name in ("killed", "whole")
    )
    assert killed == whole


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        ("experiments.train", [], "--config is required"),
        ("experiments.train", ["--config=configs/absent.py", "--workdir=W"], "configs/absent.py"),
        ("experiments.train", [f"{RUNLOCAL}y", "--workdir=W"], "no variant 'runlocaly'"),
        (
            "experiments.train",
            [RUNLOCAL, "--workdir=W", "--config.batchsize=3"],
            "no field 'batchsize'; did you mean 'batch_size'?",
        ),
        ("experiments.train", [RUNLOCAL, "--workdir=W", "--config.steps=ten"], "config.steps=ten"),
        ("experiments.train", [RUNLOCAL, "--workdir=W"], "config.dataset.data_dir is not set"),
        ("experiments.evaluate", ["--workdir=W"], "config.json is missing"),
        ("experiments.evaluate", ["--embeddings=absent.npz"], "absent.npz does not exist"),
        (
            "experiments.evaluate",
            ["--embeddings=absent.npz", "--segments=3"],
            "--segments needs --workdir",
        ),
        (
            "experiments.evaluate",
            ["--embeddings=absent.npz", "--baseline=cca"],
            "--baseline=cca with --embeddings needs --data_dir=DIR",
        ),
        ("experiments.export", ["--workdir=W", "--output=x.npz"], "config.json is missing"),
        ("experiments.sweep", [RUNLOCAL, "--sweep=absent.py", "--workdir=W"], "absent.py"),
        (
            "experiments.sweep",
            [RUNLOCAL, "--sweep=configs/sweeps/runlocal.py", "--workdir=W", "--slurm=gpu"],
            "'gpu' is not NAME=VALUE",
        ),
        ("experiments.compare", ["--runs=absent,W", "--split=test"], "absent does not exist"),
        ("experiments.diagnose", ["--workdir=W"], "config.json is missing"),
        ("experiments.train", [RUNLOCAL, "--workdir="], "--workdir= is empty: give it a value"),
        ("tools.build_dataset", ["--source=planet", "--output=W"], "--source=planet"),
        ("tools.validate_dataset", ["--data_dir=W"], "W"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    module: str, flags: list[str], message: str, tmp_path: pathlib.Path
) -> None:
    nowhere = str(tmp_path / "nowhere")
    done = run(module, *(flag.replace("=W", f"={nowhere}") for flag in flags))
    assert done.returncode != 0
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert (
        message.replace("W", nowhere) in done.stderr if message == "W" else message in done.stderr
    )
    assert not pathlib.Path(nowhere).exists()


@pytest.mark.slow
def test_text_and_segments_go_the_whole_way(tmp_path: pathlib.Path) -> None:
    data, workdir = tmp_path / "data", tmp_path / "run"
    flags = ("--source=planted", "--videos=100", "--tracks=90", "--clips=12", "--text")
    succeed("tools.build_dataset", *flags, f"--output={data}")
    flags = ("--config=configs/ii_clvtm.py:runlocal", f"--config.dataset.data_dir={data}")
    trained = succeed("experiments.train", *flags, f"--workdir={workdir}")
    assert "step 8/8" in trained
    flags = (f"--workdir={workdir}", "--split=test")
    printed = succeed("experiments.evaluate", *flags, "--segments=3", "--baseline=cca")
    tables = ("CCA", "True relevance", "video segments", "mean over pairs", "max over pairs")
    assert all(expected in printed for expected in tables)
    found = json.loads((workdir / "results" / "test.json").read_text())
    assert found["segments"].keys() == {"segment", "track_mean", "track_max"}
    succeed("experiments.export", *flags, f"--output={tmp_path}/embeddings.npz")
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as arrays:
        assert len(arrays["video_emb"]) == found["queries"]
        assert json.loads(str(arrays["meta"]))["config"]["model"]["text"]["fusion"] == "gated_sum"


@pytest.mark.slow
def test_a_sweep_killed_with_9_goes_on_and_its_runs_are_compared_and_diagnosed(
    folder: pathlib.Path,
) -> None:
    sweep = folder / "sweep"
    flags = (RUNLOCAL, f"--config.dataset.data_dir={folder}/data", "--config.steps=12")
    flags += ("--sweep=configs/sweeps/runlocal.py", f"--workdir={sweep}")
    assert "4 points: 4 in 1 programs" in succeed("experiments.sweep", *flags, "--dry_run")
    assert not sweep.exists()
    kill_once(
        lambda: list(sweep.glob("points/*/*/checkpoints/[0-9]*")),
        start("experiments.sweep", *flags),
    )
    succeed_apart("experiments.sweep", *flags, "--choose_per=loss.weights.music")
    for log in sweep.glob("points/*/*/metrics.jsonl"):
        steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
        assert steps == [2, 4, 6, 8, 10, 12]
    found = json.loads((sweep / "sweep.json").read_text())
    assert {point["status"] for point in found["points"]} == {"finished"}
    one, other = (f"{sweep}/points/{name}/*" for name in found["chosen"])
    printed = succeed(
        "experiments.compare", f"--runs=none={one},some={other}", "--split=test", "--samples=500"
    )
    assert "R@10" in printed
    assert "not distinguishable" in printed
    run_folder = next(sweep.glob("points/*/seed-0"))
    assert "HUBS" in succeed("experiments.diagnose", f"--workdir={run_folder}")
