"""What a config gets wrong about sequences, encoders, text and pairings: one line, before work."""

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import made_datasets
import ml_collections
import numpy as np
import pytest
from made_datasets import RICH
from runs import ONE, Trained, config_of

from vmr.data.schema import Pair
from vmr.encoders.layers import RowDropout
from vmr.errors import UserError
from vmr.runs import evaluate
from vmr.runs.restore import restore_run
from vmr.training import loop
from vmr.training import run_dir as run_folder
from vmr.training.config import require_sound, resolved


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("ii_clvm", {"model.video.encoder": "transfomer"}, "did you mean 'transformer'"),
        ("ii_clvm", {"model.music.encoder": "gatedconv"}, "did you mean 'gated_conv'"),
        ("ii_clvm", {"sampling.method": "globalsparse"}, "did you mean 'global_sparse'"),
        ("ii_clvm", {"pairing": "musci"}, "did you mean 'music'"),
        ("ii_clvm", {"positives": "labels"}, "did you mean 'label'"),
        ("ii_clvtm", {"model.text.fusion": "token"}, "did you mean 'tokens'"),
        ("ii_clvm", {"model.transformer.positions": "sinus"}, "did you mean 'sinusoidal'"),
        ("ii_clvm", {"model.transformer.pooling": "max"}, "expected one of mean, attention, cls"),
        (
            "ii_clvm",
            {"model.music.encoder": "gated_conv", "model.gated_conv.pooling": "cls"},
            "expected one of mean, attention",
        ),
        (
            "vmnet",
            {"sampling.clips": 8},
            "clips is 8, but .*=mean takes all .* expected 32",
        ),
        (
            "vmnet",
            {"optimizer.warmup_steps": 700_000},
            "is 700000, expected fewer than",
        ),
        ("ii_clvm", {"sampling.clips": 65}, r"clips is 65, expected at most .*max_clips, 64"),
        ("ii_clvm", {"seed": -1}, r"config\.seed is -1, expected from 0 to 2\*\*31 - 1"),
        ("ii_clvm", {"seed": 2**31}, r"config\.seed is 2147483648, expected from 0"),
        ("ii_clvm", {"sampling.clips": 0}, r"sampling\.clips is 0, expected at least 1"),
        ("ii_clvm", {"model.transformer.heads": 3}, "model_width is 256, which 3 heads cannot"),
        ("ii_clvm", {"model.transformer.heads": 0}, "heads is 0, expected at least 1"),
        ("ii_clvm", {"model.transformer.layers": -1}, "layers is -1, expected at least 0"),
        ("ii_clvm", {"model.transformer.max_clips": 0}, "max_clips is 0, expected at least 1"),
        (
            "ii_clvm",
            {
                "model.transformer.positions": "sinusoidal",
                "model.transformer.model_width": 15,
                "model.transformer.heads": 5,
            },
            "model_width is 15, expected an even number",
        ),
        (
            "ii_clvm",
            {"model.music.encoder": "gated_conv", "model.gated_conv.kernel": 4},
            "kernel is 4, expected an odd number",
        ),
        ("ii_clvtm:tokens", {"model.video.encoder": "branch"}, "found 'branch'; gated_sum goes"),
        ("ii_clvtm:tokens", {"model.video.encoder": "gated_conv"}, "found 'gated_conv'"),
        ("ii_unimodal", {"sampling.method": "mean"}, "global_sparse or contiguous, found 'mean'"),
        ("ii_unimodal", {"model.text.fusion": "gated_sum"}, "reads no text"),
        ("ii_clvtm", {"model.text.dropout": 1.0}, r"expected in \[0, 1\)"),
        ("ii_clvtm", {"model.text.tokens": 0}, r"text\.tokens is 0, expected at least 1"),
        ("ii_clvtm", {"model.text.vocabulary": -5}, r"text\.vocabulary is -5, expected at least 1"),
        ("ii_clvtm", {"model.text.embedding_width": -1}, "embedding_width is -1, expected at l"),
        ("ii_clvm", {"dataset.train_share": 0.0}, r"train_share is 0\.0, expected in \(0, 1\]"),
        ("ii_clvm", {"dataset.train_share": 1.5}, r"train_share is 1\.5, expected in \(0, 1\]"),
        ("ii_clvm", {"dataset.train_share": float("nan")}, "is nan, expected a finite number"),
        ("ii_clvm", {"model.batch_norm.epsilon": float("nan")}, "is nan, expected a finite"),
        ("vmnet", {"model.batch_norm.epsilon": -1.0}, r"epsilon is -1\.0, expected more than 0"),
        ("ii_clvm", {"loss.weights.m2v": float("inf")}, "is inf, expected a finite number"),
        ("ii_clvm", {"model.dropout": 0.999995}, r"is 0\.999995, expected in \[0, 1\), at most 1"),
        ("ii_clvm", {"model.input_dropout": 0.999995}, "at most 1 - 1/65536"),
        ("ii_clvtm", {"model.text.dropout": 0.999995}, "at most 1 - 1/65536"),
        ("vmnet", {"augment.noise": -0.1}, r"noise is -0\.1, expected at least 0"),
        ("vmnet", {"model.video.hidden": (32.5,)}, r"is \(32\.5,\), expected integers"),
        ("vmnet", {"model.music.hidden": ("32",)}, r"is \('32',\), expected integers"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(
    name: str, changes: dict[str, Any], message: str
) -> None:
    config = config_of(name if ":" in name else f"{name}:", "anywhere")
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message) as raised:
        require_sound(config)
    assert str(raised.value).startswith("config.")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rate", [0.9999847412109375, 0.5])
def test_the_highest_rate_of_dropout_keeps_some(rate: float) -> None:
    config = config_of("vmnet:", "anywhere")
    config.model.dropout = rate
    require_sound(config)
    drop = RowDropout(rate)
    rows, places = jnp.ones((50, 10_000)), jnp.arange(50)
    found = drop.apply({}, rows, places, train=True, rngs={"dropout": jax.random.key(0)})
    assert found.sum() > 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vmnet", {"model.transformer.heads": 3, "model.gated_conv.kernel": 4}),
        ("vmnet", {"model.transformer.layers": -1, "model.transformer.positions": "sinus"}),
        ("ii_clvm", {"model.video.hidden": (0,), "model.batch_norm.epsilon": -1.0}),
        ("ii_unimodal", {"model.video.encoder": "branch", "model.video.hidden": (0,)}),
    ],
)
def test_options_of_encoders_that_are_not_named_are_not_read(
    name: str, changes: dict[str, Any]
) -> None:
    config = config_of(f"{name}:", "anywhere")
    config.update_from_flattened_dict(changes)
    require_sound(config)


def test_a_saved_config_may_hold_anything_and_is_told_in_one_line() -> None:
    """Whatever stands in place of a field, or of a group of fields: unread, or named."""
    named: dict[tuple[str, ...], str] = {}
    for name in ("vmnet:", "ii_clvm:", "ii_clvtm:tokens", "ii_clvm:vmnet"):
        saved = resolved(config_of(name, "anywhere"))
        for path in paths(saved):
            for wrong in ("8", [], {}, None, True, 3, 8.5):
                config = ml_collections.ConfigDict(replaced(saved, path, wrong))
                try:
                    require_sound(config)
                except UserError as mistake:
                    named[path] = str(mistake)
    assert not any("\n" in told for told in named.values())
    assert named.keys() >= {("steps",), ("model",), ("selection",), ("loss", "weights", "m2v")}


def paths(fields: dict[str, Any]) -> list[tuple[str, ...]]:
    """Where a field or a group of fields stands."""
    found = []
    for name, value in fields.items():
        inner = paths(value) if isinstance(value, dict) else []
        found += [(name,), *((name, *path) for path in inner)]
    return found


def replaced(fields: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    name, *rest = path
    return fields | {name: replaced(fields[name], tuple(rest), value) if rest else value}


def test_any_number_of_clips_goes_without_learnt_positions() -> None:
    config = config_of("ii_clvm:", "anywhere")
    config.sampling.clips = 65
    config.model.transformer.positions = "none"
    require_sound(config)
    config.model.transformer.positions = "learned"
    config.model.update({"video": {"encoder": "gated_conv"}, "music": {"encoder": "branch"}})
    require_sound(config)


@pytest.mark.parametrize("name", ["ii_clvm:runlocal", "ii_unimodal:runlocal"])
def test_a_sequence_without_clips_is_named_where_the_report_is_overridden(
    name: str, tmp_path: pathlib.Path, workdir: pathlib.Path
) -> None:
    def emptied(pair: Pair) -> Pair:
        pair = made_datasets.rich(pair)
        if pair.music_id != "track000007":
            return pair
        return made_datasets.replace(pair, music=np.zeros((0, 96), np.uint8))

    config = config_of(name, made_datasets.write(tmp_path / "data", RICH, emptied))
    with pytest.raises(UserError, match="validation failed"):
        loop.train(config, workdir, ONE)
    config.dataset.allow_invalid = True
    expected = f"{config.dataset.data_dir}: train: the music sequence of 'track000007' has length 0"
    with pytest.raises(UserError, match=expected) as raised:
        loop.train(config, workdir, ONE)
    assert "\n" not in str(raised.value)


def without(trained: Trained, field: str, folder: pathlib.Path) -> pathlib.Path:
    """The run as one of before a field was there."""
    saved = json.loads((trained.workdir / "config.json").read_text())
    *rooms, last = field.split(".")
    del functools.reduce(dict.__getitem__, rooms, saved)[last]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(saved))
    (folder / "environment.json").write_bytes((trained.workdir / "environment.json").read_bytes())
    (folder / "checkpoints").symlink_to(trained.workdir / "checkpoints")
    return folder


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("ii_clvm", "pairing"),
        ("ii_clvm", "positives"),
        ("ii_clvm", "model.text"),
        ("ii_clvm", "model.text.dropout"),
        ("ii_clvm", "dataset.train_share"),
        ("vmnet", "sampling"),
        ("vmnet", "model.linear"),
        ("vmnet", "patience"),
        ("vmnet", "dataset.allow_invalid"),
        ("vmnet", "dataset.cache"),
    ],
)
def test_a_run_of_before_a_field_opens_with_its_default(
    name: str, field: str, run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    trained = run_of(f"{name}:runlocal")
    old = without(trained, field, tmp_path / "old")
    run = restore_run(old)
    assert resolved(run.config) == json.loads((trained.workdir / "config.json").read_text())
    assert run.step == restore_run(trained.workdir).step
    before = json.loads((old / "config.json").read_text())
    with run_folder.claimed(old, trained.config, run.dataset.description):  # and goes on
        assert json.loads((old / "config.json").read_text()) == before


@pytest.mark.parametrize("field", ["loss.inter", "loss.weights", "loss.weights.music"])
def test_a_run_without_a_field_that_has_no_default_is_told_in_one_line(
    field: str, run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    old = without(run_of("vmnet:runlocal"), field, tmp_path / "old")
    for read in (restore_run, lambda workdir: evaluate.evaluate_run(workdir, "test")):
        with pytest.raises(UserError, match="no field") as raised:
            read(old)
        assert str(raised.value).startswith(f"{old / 'config.json'}: the config has no field ")
        assert f"'{field}" in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_run_that_never_read_its_clips_opens(
    run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    """Though it could not be begun any more."""
    trained = run_of("vmnet:runlocal")
    old = without(trained, "seed", tmp_path / "old")
    saved = resolved(trained.config) | {"sampling": {"method": "mean", "clips": 4}}
    saved["optimizer"]["warmup_steps"] = 1000
    (old / "config.json").write_text(json.dumps(saved))
    assert restore_run(old).config.sampling.clips == 4
