"""The training loop on a small planted dataset: resumed = uninterrupted, early stop, bad runs."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
import pytest
from clu import metric_writers
from runs import Trained, assert_identical, scalars, stopping_at, traced_step

from vmr.errors import UserError
from vmr.runs import evaluate
from vmr.training import loop
from vmr.training.config import require_sound
from vmr.training.log import MetricsLog, require_finite
from vmr.training.run_dir import latest_step
from vmr.training.state import TrainState

DEVICES = jax.devices()[:1]


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> TrainState:
    return loop.train(config, workdir, DEVICES)


@pytest.mark.parametrize("lost_at", [1, 3, 6])
def test_resumed_is_uninterrupted_to_the_bit(
    config: ml_collections.ConfigDict,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    lost_at: int,
) -> None:
    config.checkpoint_every = 1 if lost_at == 3 else 2
    if lost_at == 6:
        config.microbatch = 8
        config.loss.update({"inter": "infonce", "intra": "ii_mse", "warmup_steps": 5})
        config.loss.infonce.learnt = True
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stopping_at(lost_at, patch)
        with pytest.raises(InterruptedError):
            train(config, tmp_path / "cut")
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as half_written:
        half_written.write('{"step": 7, "train/lo')
    resumed = train(config, tmp_path / "cut")
    assert_identical(resumed, whole)
    assert scalars(tmp_path / "cut") == scalars(tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(smoke_run: Trained) -> None:
    lines = (smoke_run.workdir / "metrics.jsonl").read_text()
    assert_identical(train(smoke_run.config, smoke_run.workdir), smoke_run.state)
    assert (smoke_run.workdir / "metrics.jsonl").read_text() == lines


def test_a_run_says_where_it_took_place_and_what_it_logged(smoke_run: Trained) -> None:
    workdir = smoke_run.workdir
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment.keys() >= {"versions", "devices", "git_revision", "dataset_fingerprint"}
    assert json.loads((workdir / "config.json").read_text())["loss"]["weights"]["m2v"] == 3.0
    lines = scalars(workdir)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert lines[0].keys() >= {
        "train/loss",
        "train/gradient_norm",
        "train/parameter_norm/video_encoder",
        "train/term/m2v",
        "train/term_gradient_norm/video",
    }
    assert [line["step"] for line in lines if "val/v2m/R@10" in line] == [4, 8]
    assert list(workdir.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("inter", "intra"),
    [
        ("ranking", "structure"),
        ("infonce", "ii_mse"),
        ("siglip", "ii_kl"),
        ("crossclr", "js"),
        ("infonce", "gram"),
        ("siglip", "rkd_distance"),
        ("crossclr", "none"),
    ],
)
def test_losses_are_switched_by_name(
    config: ml_collections.ConfigDict, inter: str, intra: str
) -> None:
    config.loss.update({"inter": inter, "intra": intra, "block_rows": 12})
    config.microbatch = 16
    before, after, scalars = traced_step(config)
    assert after == before
    terms = {"m2v", "v2m"} | ({"music", "video"} if intra != "none" else set())
    assert {name for name in scalars if "term/" in name} == {f"term/{term}" for term in terms}
    learnt = {name for name in scalars if "learnt/" in name}
    assert learnt == ({"learnt/scale", "learnt/bias"} if inter == "siglip" else set())


def test_training_learns(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    config.update({"steps": 150, "log_every": 10, "eval_every": 150, "checkpoint_every": 150})
    config.optimizer.learning_rate = 3e-3
    train(config, workdir)
    losses = [line["train/loss"] for line in scalars(workdir)]
    assert losses[-1] < 0.4 * losses[0]


def test_training_stops_early_when_validation_no_longer_improves(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.update({"steps": 50, "eval_every": 1, "patience": 3})
    config.optimizer.learning_rate = 0.0  # only the running statistics of the norm still move
    state = train(config, workdir)
    told = (
        f"ended at step {int(state.step)} of 50: 3 validations brought nothing better (config.pat"
    )
    assert told in capsys.readouterr().out
    scores = [line["val/v2m/R@10"] for line in scalars(workdir) if "val/v2m/R@10" in line]
    assert int(state.step) == int(np.argmax(scores)) + 1 + 3
    assert int(train(config, workdir).step) == int(state.step)  # and stays stopped


def test_a_loss_that_is_not_finite_names_the_step_and_its_videos(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.optimizer.learning_rate = 1e30
    with pytest.raises(UserError, match=r"step 2: loss nan.* videos: video\d+") as raised:
        train(config, workdir)
    assert "\n" not in str(raised.value)
    assert "ended at step 2 of 8: its loss or its state is not finite" in capsys.readouterr().out
    report = json.loads((workdir / "nonfinite_step_2.json").read_text())
    assert len(report["video_ids"]) == config.batch_size
    assert not list((workdir / "checkpoints").glob("[0-9]*"))  # nothing broken was kept


@pytest.mark.parametrize(("eval_every", "checkpoint_every"), [(8, 1), (1, 8)])
def test_a_state_that_is_not_finite_is_neither_saved_nor_validated(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    eval_every: int,
    checkpoint_every: int,
) -> None:
    config.update({"eval_every": eval_every, "checkpoint_every": checkpoint_every})
    config.optimizer.learning_rate = 1e30
    expected = r"step 1: loss \d.*, norm of the state inf; the batch's videos: video\d+"
    with pytest.raises(UserError, match=expected) as raised:
        train(config, workdir)
    assert "\n" not in str(raised.value)
    assert (workdir / "nonfinite_step_1.json").exists()
    assert latest_step(workdir) == 0
    config.optimizer.learning_rate = 1e-3  # and so the run can be mended
    assert int(train(config, workdir).step) == 8


def test_a_folder_of_another_config_is_left_alone(
    config: ml_collections.ConfigDict, smoke_run: Trained
) -> None:
    workdir = smoke_run.workdir
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    config.optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"config\.optimizer\.learning_rate is 0\.0003 there"):
        train(config, workdir)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, r"config\.batch_size is 0, expected at least 1"),
        ("batch_size", 10_000, r"config\.batch_size is 10000, expected at most 150"),
        ("loss.inter", "rankin", "did you mean 'ranking'"),
        ("loss.intra", "structur", "did you mean 'structure'"),
        ("optimizer.schedule", "linear", "expected one of constant, cosine"),
        ("model.dropout", 1.0, r"expected in \[0, 1\)"),
        ("model.video.hidden", (0,), "expected widths of at least 1"),
        ("loss.ranking.top_k", 0, r"loss\.ranking\.top_k is 0, expected at least 1"),
        ("loss.weights.music", -1.0, r"loss\.weights\.music is -1\.0, expected at least 0"),
        ("loss.weights.video", float("nan"), "weights.video is nan, expected a finite number"),
        ("loss.structure_adjacent.top_k", 1, "expected at least 2"),
        ("loss.similarity_dtype", "float16", "expected one of float32, bfloat16"),
        ("loss.similarity_dtype", "bfloat16", "which config.loss.inter=ranking does not have"),
        ("microbatch", 33, r"microbatch is 33, expected at most config\.batch_size, 32"),
        ("patience", -1, "expected at least 0"),
        ("dataset.data_dir", "/nowhere", "/nowhere"),
        ("dataset.data_dir", None, "is not set"),
        ("dataset.name", "youtube8m", "holds 'planted'"),
        ("selection", "v2m/R@7", "v2m/R@7"),
    ],
)
def test_a_wrong_field_is_named_before_anything_starts(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    field: str,
    value: Any,
    message: str,
) -> None:
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        train(config, workdir)
    assert not (workdir / "checkpoints").exists()


@pytest.mark.parametrize(
    ("inter", "option", "value", "message"),
    [
        ("infonce", "temperature", 0.0, r"infonce\.temperature is 0\.0, expected more than 0"),
        ("infonce", "label_smoothing", 1.0, r"label_smoothing is 1\.0, expected in \[0, 1\)"),
        ("siglip", "scale", -1.0, "expected more than 0"),
        ("crossclr", "threshold", 0.0, r"expected in \(0, 1\]"),
        ("infonce", "temperature", 0.001, r"expected at least 0\.01 where it is learnt"),
    ],
)
def test_options_are_checked_of_the_losses_that_are_named(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    inter: str,
    option: str,
    value: float,
    message: str,
) -> None:
    config.loss[inter].update({option: value, "learnt": True})
    require_sound(config)  # which trains with `ranking`
    config.loss.inter = inter
    with pytest.raises(UserError, match=message):
        train(config, workdir)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warmup_must_end_before_training_does(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, schedule: str
) -> None:
    config.optimizer.schedule = schedule
    config.optimizer.warmup_steps = 8
    with pytest.raises(UserError, match=r"warmup_steps is 8, expected fewer than config\.steps, 8"):
        train(config, workdir)


def test_a_config_without_a_field_names_it(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    del config.loss.weights.video
    with pytest.raises(UserError, match=r"no field 'loss\.weights\.video'"):
        train(config, workdir)


def test_a_folder_without_a_checkpoint_yet_takes_a_mended_config(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    config.optimizer.learning_rate = 1e30
    with pytest.raises(UserError, match="step 2: loss nan"):
        train(config, workdir)
    config.optimizer.learning_rate = 1e-3
    assert int(train(config, workdir).step) == 8


def test_a_checkpoint_that_was_never_finished_is_none(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    (workdir / "checkpoints" / "5.orbax-checkpoint-tmp-1").mkdir(parents=True)
    (workdir / "config.json").write_text('{"seed": 3}')
    assert int(train(config, workdir).step) == 8
    assert json.loads((workdir / "config.json").read_text())["seed"] == 0


def test_checkpoints_without_their_config_are_not_taken_over(
    config: ml_collections.ConfigDict, smoke_run: Trained, workdir: pathlib.Path
) -> None:
    shutil.copytree(smoke_run.workdir, workdir)
    (workdir / "config.json").unlink()
    config.seed = 3
    with pytest.raises(UserError, match=r"config\.json is missing") as raised:
        train(config, workdir)
    assert str(workdir) in str(raised.value)
    assert not (workdir / "config.json").exists()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("environment.json", "{}", "dataset_fingerprint is None, expected a string"),
        ("environment.json", "[]", "is the JSON of a list, expected an object"),
        ("environment.json", '{"dataset_fingerprint": 3}', "is 3, expected a string"),
        ("config.json", "[]", "is the JSON of a list, expected an object"),
        ("config.json", "3", "is the JSON of a int, expected an object"),
    ],
)
def test_files_of_a_run_that_hold_something_else_are_named(
    run_of: Callable[[str], Trained],
    tmp_path: pathlib.Path,
    file: str,
    content: str,
    message: str,
) -> None:
    run = run_of("vmnet:runlocal")
    copy = tmp_path / "copy"
    shutil.copytree(run.workdir, copy)
    (copy / file).write_text(content)
    for read in (lambda: evaluate.evaluate_run(copy, "test"), lambda: train(run.config, copy)):
        with pytest.raises(UserError, match=message) as raised:
            read()
        assert str(raised.value).startswith(str(copy / file))
        assert "\n" not in str(raised.value)


def test_a_damaged_line_costs_no_other_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "metrics.jsonl"
    damaged = [b'{"step": 2, "lo', b"[]", b'{"loss": 1}', b'{"step": "3"}', b"\xff"]
    path.write_bytes(b"\n".join([b'{"step": 1}', *damaged, b'{"step": 4}', b'{"step": 6}']))
    with MetricsLog(tmp_path, resumed_step=5) as log:
        log.write(5, {"loss": 1.0})
    assert [line["step"] for line in scalars(tmp_path)] == [1, 4, 5]


def test_a_full_disk_is_told_in_one_line_and_the_run_goes_on_later(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(metric_writers.SummaryWriter, "write_scalars", full)
        with pytest.raises(UserError, match=r"no space left on the disk of .*metrics\.jsonl"):
            train(config, workdir)
    assert int(train(config, workdir).step) == 8


def test_eight_devices_train_as_one_does(
    config: ml_collections.ConfigDict, smoke_run: Trained, workdir: pathlib.Path
) -> None:
    loop.train(config, workdir, jax.devices())
    for one, eight in zip(scalars(smoke_run.workdir), scalars(workdir), strict=True):
        np.testing.assert_allclose(eight["train/loss"], one["train/loss"], rtol=1e-4)


def test_devices_must_share_a_batch_evenly(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    with pytest.raises(UserError, match="batch_size is 32, which 3 devices cannot share"):
        loop.train(config, workdir, jax.devices()[:3])
    config.microbatch = 3
    with pytest.raises(UserError, match="microbatch is 3, which 2 devices cannot share"):
        loop.train(config, workdir, jax.devices()[:2])


def test_ids_of_several_lines_are_told_in_one(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"videos: one two, … \(all 1 in") as raised:
        require_finite(tmp_path, 3, {"loss": np.float32("nan")}, {"video_id": ["one\ntwo"]})
    assert "\n" not in str(raised.value)
    assert json.loads((tmp_path / "nonfinite_step_3.json").read_text())["video_ids"] == ["one\ntwo"]
