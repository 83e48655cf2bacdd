"""Checkpoints: what a disk may do to one is told, and a run goes on from what is whole."""

import json
import logging
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from runs import ONE, Trained, assert_identical, scalars, stopping_at

from vmr.errors import UserError
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.checkpoints import Checkpoints
from vmr.training.grid import Run
from vmr.training.loop import train_grid
from vmr.training.state import TrainState

SELECTION = "v2m/R@10"
# Orbax leaves a coroutine unawaited where what it reads is damaged.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state_at(step: int) -> TrainState:
    random = np.random.default_rng(step)
    return TrainState(
        step=np.array(step, np.int32),
        params={name: random.normal(size=(40, 30)).astype(np.float32) for name in "ab"},
        batch_stats={},
        opt_state=(np.array(step, np.int32),),
        average={},
        standardization={},
        key=np.arange(2, dtype=np.uint32),
    )


@pytest.fixture
def workdir(tmp_path: pathlib.Path) -> pathlib.Path:
    """Best at step 4, latest at step 6, which was not validated."""
    with Checkpoints(tmp_path / "run", SELECTION) as checkpoints:
        checkpoints.save(state_at(2), {SELECTION: 3.0})
        checkpoints.save(state_at(4), {SELECTION: 5.0})
        checkpoints.save(state_at(6), None)
    return tmp_path / "run"


def restored(workdir: pathlib.Path) -> TrainState:
    with Checkpoints(workdir, SELECTION) as checkpoints:
        return checkpoints.restore_latest(state_at(0))


def arrays_of(checkpoint: pathlib.Path) -> list[pathlib.Path]:
    """The files that hold the arrays, and what is needed to read them."""
    return sorted(path for path in (checkpoint / "default").rglob("*") if path.is_file())


def flipped(checkpoint: pathlib.Path, flips: int) -> Iterator[None]:
    """One bit of the arrays' files is the other, then is mended, and so on."""
    random = np.random.default_rng(0)
    files = arrays_of(checkpoint)
    sizes = np.cumsum([path.stat().st_size for path in files])
    for place in random.integers(0, sizes[-1], flips):
        path = files[int(np.searchsorted(sizes, place, side="right"))]
        content = bytearray(whole := path.read_bytes())
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        yield
        path.write_bytes(whole)


def test_no_flipped_bit_changes_a_parameter_without_a_word(workdir: pathlib.Path) -> None:
    told = []
    with Checkpoints(workdir, SELECTION, read_only=True) as checkpoints:
        for _ in flipped(workdir / "checkpoints" / "6", flips=20):
            try:
                found = checkpoints.restore(6, state_at(0))
            except UserError as error:
                told.append(str(error))
            else:
                assert_identical(found, state_at(6))
    assert len(told) > 10
    assert all(line.startswith(str(workdir / "checkpoints" / "6")) for line in told)
    assert not any("\n" in line or len(line) > 500 for line in told)


def test_a_checkpoint_of_before_there_were_checksums_opens(workdir: pathlib.Path) -> None:
    for step in ("4", "6"):
        path = workdir / "checkpoints" / step / "_CHECKPOINT_METADATA"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {}}))
    (workdir / "checkpoints/4/metrics/metrics").write_text('{"v2m/R@10": 5.0, "step": 4}')
    assert_identical(restored(workdir), state_at(6))
    with Checkpoints(workdir, SELECTION, read_only=True) as checkpoints:
        assert checkpoints.best_step == 4


@pytest.mark.parametrize("file", ["arrays", "metadata"])
def test_a_run_goes_on_from_the_newest_whole_checkpoint(
    workdir: pathlib.Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = workdir / "checkpoints" / "6"
    path = damaged / "_CHECKPOINT_METADATA"
    if file == "arrays":
        path = max(arrays_of(damaged), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:100])
    with Checkpoints(workdir, SELECTION) as checkpoints:
        assert_identical(checkpoints.restore_latest(state_at(0)), state_at(4))
        assert checkpoints.latest_step == checkpoints.best_step == 4
        checkpoints.save(state_at(6), None)  # the step is taken again
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(str(damaged))
    assert line.endswith(f"it is set aside as {workdir / 'damaged_checkpoints' / '6'}")
    assert_identical(restored(workdir), state_at(6))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe{", b'{"v2m', b"[]", b'{"step": 4}', b'{"v2m/R@10": "5", "step": 4}'],
)
def test_damaged_metrics_are_told_and_set_aside(
    workdir: pathlib.Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workdir / "checkpoints" / "4" / "metrics" / "metrics"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        Checkpoints(workdir, SELECTION, read_only=True)
    assert str(raised.value).startswith(f"{path} is damaged: ")
    assert "\n" not in str(raised.value)
    assert_identical(restored(workdir), state_at(6))
    assert f"{path} is damaged" in capsys.readouterr().out
    assert not (workdir / "checkpoints" / "4").exists()
    assert (workdir / "damaged_checkpoints" / "4" / "default").is_dir()


def test_another_score_in_the_metrics_is_no_better_checkpoint(workdir: pathlib.Path) -> None:
    path = workdir / "checkpoints" / "4" / "metrics" / "metrics"
    path.write_text(path.read_text().replace("5.0", "7.0"))
    with pytest.raises(UserError, match="have not the checksum they were saved with"):
        Checkpoints(workdir, SELECTION, read_only=True)


def test_where_nothing_is_whole_all_stays_as_it_is(workdir: pathlib.Path) -> None:
    for step in ("4", "6"):
        for path in arrays_of(workdir / "checkpoints" / step):
            path.write_bytes(b"")
    before = sorted(workdir.rglob("*"))
    with pytest.raises(UserError, match=r"checkpoints/6 cannot be restored: it is damaged"):
        restored(workdir)
    assert sorted(workdir.rglob("*")) == before


@pytest.fixture(scope="module")
def cut(run_of: Callable[[str], Trained], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that was killed after step 6: best at step 4, latest at step 6."""
    config = run_of("vmnet:runlocal").config
    run = Trained(config, tmp_path_factory.mktemp("cut") / "run")
    with pytest.MonkeyPatch.context() as patch:
        stopping_at(7, patch)
        with pytest.raises(InterruptedError):
            loop.train(config, run.workdir, ONE)
    return run


def damaged_copy(run: Trained, folder: pathlib.Path) -> pathlib.Path:
    shutil.copytree(run.workdir, folder)
    for path in arrays_of(folder / "checkpoints" / "6"):
        path.write_bytes(b"")
    return folder


def test_resumed_from_an_earlier_checkpoint_is_uninterrupted_to_the_bit(
    cut: Trained,
    run_of: Callable[[str], Trained],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = run_of("vmnet:runlocal")
    damaged = damaged_copy(cut, tmp_path / "run")
    resumed = loop.train(cut.config, damaged, ONE)
    assert "going on from step 4" in capsys.readouterr().out
    assert_identical(resumed, whole.state)
    assert scalars(damaged) == scalars(whole.workdir)
    assert restore_run(damaged).step == restore_run(whole.workdir).step


def test_runs_at_different_steps_do_not_go_on_together(
    cut: Trained, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(cut.workdir, tmp_path / "one")
    damaged_copy(cut, tmp_path / "other")
    runs = [Run(cut.config, tmp_path / name) for name in ("one", "other")]
    with pytest.raises(UserError, match=r"other goes on from step 4 and .*one from step 6"):
        train_grid([runs], ONE)


def record(path: str, failed: bool) -> logging.LogRecord:
    error = None
    if failed:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            error = sys.exc_info()
    return logging.LogRecord("absl", logging.ERROR, path, 1, "told", (), error)


def test_only_tracebacks_of_orbax_are_silenced_however_many_runs_are_open(
    tmp_path: pathlib.Path,
) -> None:
    log = logging.getLogger("absl")
    with Checkpoints(tmp_path / "one", "v2m/R@10"):
        filters = list(log.filters)
        with Checkpoints(tmp_path / "two", "v2m/R@10"):
            assert log.filters == filters
    assert not log.filter(record("/lib/orbax/checkpoint/async_checkpointer.py", failed=True))
    assert log.filter(record("/lib/orbax/checkpoint/async_checkpointer.py", failed=False))
    assert log.filter(record("/lib/tensorflow_datasets/reader.py", failed=True))
