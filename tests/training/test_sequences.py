"""Runs on sequences of all lengths, with and without text: the promises that vectors have."""

import json
import pathlib
from collections.abc import Callable

import jax
import numpy as np
import pytest
from runs import ONE, Trained, assert_identical, scalars, stopping_at

from vmr import embeddings
from vmr.data.pipeline import train_batches
from vmr.runs import evaluate
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training.reading import batch_spec_of, dataset_of

RunOf = Callable[[str], Trained]
NAMES = ("ii_clvm:runlocal", "ii_clvtm:runlocal", "ii_clvtm:tokens,runlocal")


@pytest.mark.parametrize(("name", "lost_at"), [*zip(NAMES, (1, 3, 6), strict=True)])
def test_resumed_is_uninterrupted_to_the_bit(
    name: str,
    lost_at: int,
    run_of: RunOf,
    workdir: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run_of(name)
    config = whole.config.copy_and_resolve_references()
    with monkeypatch.context() as patch:
        stopping_at(lost_at, patch)
        with pytest.raises(InterruptedError):
            loop.train(config, workdir, ONE)
    resumed = loop.train(config, workdir, ONE)
    assert_identical(resumed, whole.state)
    assert scalars(workdir) == scalars(whole.workdir)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_traced_once_for_sequences_of_all_lengths(
    name: str, rich_dir: str, run_of: RunOf
) -> None:
    run = run_of(name)
    dataset = dataset_of(run.config)
    batches = train_batches(dataset, "train", 32, 0, spec=batch_spec_of(run.config, dataset))
    lengths = next(batches)["video_mask"].sum(axis=1)
    assert set(lengths.tolist()) == {1, 2, 3, 4}
    assert run.traces == {"train_step": 1, "embed_step": 1}


def test_devices_and_pieces_train_as_one_device_on_the_whole_batch(
    run_of: RunOf, workdir: pathlib.Path
) -> None:
    """With dropout of units and of tokens on."""
    whole = run_of("ii_clvtm:tokens,runlocal")
    config = whole.config.copy_and_resolve_references()
    assert config.model.dropout
    assert config.model.text.dropout
    config.microbatch = 16
    loop.train(config, workdir, jax.devices()[:2])
    # Not the parameters: Adam makes steps of the gradient's noise where it has to be zero, as at
    # the biases of the keys.
    for found, expected in zip(scalars(workdir), scalars(whole.workdir), strict=True):
        np.testing.assert_allclose(found["train/loss"], expected["train/loss"], rtol=1e-4)
        for name in (name for name in expected if name.startswith("train/")):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, err_msg=name)


def test_a_run_its_export_and_the_exports_scores_agree(
    run_of: RunOf, tmp_path: pathlib.Path
) -> None:
    workdir, path = run_of("ii_clvtm:tokens,runlocal").workdir, tmp_path / "embeddings.npz"
    run = restore_run(workdir)
    embeddings.write(path, run.embed("test", batch_size=5), "test", run.meta())
    of_run, of_file = evaluate.evaluate_run(workdir, "test"), evaluate.evaluate_file(path, None)
    assert of_run == of_file
    assert {"v2m", "m2v", "truth", "ci95"} <= of_run.keys()
    with np.load(path, allow_pickle=False) as arrays:
        meta = json.loads(str(arrays["meta"]))
        assert len(arrays["video_emb"]) == of_run["queries"] == 12
    assert meta["config"]["model"]["text"]["fusion"] == "tokens"
