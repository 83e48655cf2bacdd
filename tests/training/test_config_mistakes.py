"""What a config gets wrong about sequences, encoders, text and pairings: one line, before work."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import made_datasets
import numpy as np
import pytest
from made_datasets import RICH
from runs import ONE, Trained, config_of

from vmr.data.schema import Pair
from vmr.errors import UserError
from vmr.training import loop, scoring
from vmr.training.config import require_sound
from vmr.training.inference import restore_run


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
        ("ii_clvm", {"model.gated_conv.pooling": "cls"}, "expected one of mean, attention"),
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
        ("ii_clvm", {"model.gated_conv.kernel": 4}, "kernel is 4, expected an odd number"),
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
        ("ii_clvm", {"model.batch_norm.epsilon": -1.0}, r"epsilon is -1\.0, expected more than 0"),
        ("ii_clvm", {"loss.weights.m2v": float("inf")}, "is inf, expected a finite number"),
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


@pytest.mark.parametrize(
    "field",
    [
        "pairing",
        "sampling",
        "model.transformer",
        "model.transformer.max_clips",
        "model.text",
        "model.text.dropout",
        "model.linear",
        "model.batch_norm.epsilon",
        "dataset.train_share",
        "dataset.allow_invalid",
    ],
)
def test_a_run_of_before_a_field_is_told_in_one_line(
    field: str, run_of: Callable[[str], Trained], tmp_path: pathlib.Path
) -> None:
    trained = run_of("ii_clvm:runlocal").workdir
    saved = json.loads((trained / "config.json").read_text())
    *rooms, name = field.split(".")
    room = saved
    for part in rooms:
        room = room[part]
    del room[name]
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text(json.dumps(saved))
    (old / "environment.json").write_bytes((trained / "environment.json").read_bytes())
    (old / "checkpoints").symlink_to(trained / "checkpoints")
    for read in (restore_run, lambda workdir: scoring.evaluate_run(workdir, "test")):
        with pytest.raises(UserError, match="no field") as raised:
            read(old)
        assert str(raised.value).startswith(f"{old / 'config.json'}: the config has no field ")
        assert f"'{field}" in str(raised.value)
        assert "\n" not in str(raised.value)
