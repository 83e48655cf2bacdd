"""Corrections of hubness by the commands, on embeddings of anybody's."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from front_doors import run, succeed

from vmr import embeddings
from vmr.evaluation import hubness_corrections as hubness
from vmr.evaluation import tiles

WIDTH = 16
SIZES = {"train": 300, "validation": 80, "test": 90}
META = {"model": "a" * 64, "step": 7}


def arrays_of(split: str, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a split; tracks lie near a direction that all videos share, each to its degree."""
    videos, generator = SIZES[split], np.random.default_rng(list(SIZES).index(split))
    music = generator.normal(size=(videos // 2, width))
    index = generator.integers(videos // 2, size=videos)
    index[: videos // 2] = np.arange(videos // 2)  # every track has a video
    video = music[index] + 1.5 * generator.normal(size=(videos, width)) + 1
    music = music + generator.exponential(1.2, size=(videos // 2, 1))
    rows = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (video, music))
    return (*(x.astype(np.float32) for x in rows), index)  # type: ignore[return-value]


def save(path: pathlib.Path, split: str, width: int = WIDTH, **changes: Any) -> pathlib.Path:
    video, music, index = arrays_of(split, width)
    options: dict[str, Any] = {
        "video_ids": [f"{split}_v{n}" for n in range(len(video))],
        "music_ids": [f"{split}_t{n}" for n in range(len(music))],
        "split": split,
        "meta": META,
    }
    embeddings.save(path, video, music, index, **(options | changes))
    return path


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tile of 1024 by 1024 scores would be mostly padding, for each of a hundred settings."""
    monkeypatch.setattr(tiles, "TILE", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("hubness")
    for split in SIZES:
        save(folder / f"{split}.npz", split)
    return folder


def flags(folder: pathlib.Path, **changes: object) -> list[str]:
    given: dict[str, object] = {
        "embeddings": folder / "test.npz",
        "bank": folder / "train.npz",
        "validation": folder / "validation.npz",
        "hubness": "all",
    }
    return [f"--{name}={value}" for name, value in (given | changes).items() if value is not None]


def refused(*arguments: str) -> str:
    done = run("experiments.evaluate", *arguments)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_corrections_stand_in_a_table_of_their_own(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "test.json"
    printed = succeed("experiments.evaluate", *flags(folder), f"--output={output}")
    plain, corrected = printed.split("Hubness corrected by a bank of ")
    assert "CSLS" not in plain
    assert corrected.startswith("300 videos and 150 tracks of train; settings chosen on validation")
    for name in hubness.NAMES.values():
        assert corrected.count(f"\n{name}, ") == 2
    found = json.loads(output.read_text())
    by_method = found.pop("hubness")
    assert by_method.pop("bank") == {
        **{"split": "train", "videos": 300, "tracks": 150, "of_pairs": 300},
        **{"settings_by": "validation", "same_split": False, "model": "a" * 64},
    }
    bank = hubness.Bank(*arrays_of("train")[:2])
    methods = list(hubness.NAMES)
    expected = hubness.evaluate_corrected(arrays_of("test"), bank, arrays_of("validation"), methods)
    assert by_method == json.loads(json.dumps(expected))
    for result in by_method.values():
        assert result.keys() - {"settings"} <= found.keys()
        assert result["chance"] == found["chance"]


def test_corrections_of_one_bank_gather_in_the_results(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """And the plain results are what they are without them."""
    output = f"--output={tmp_path / 'test.json'}"
    succeed("experiments.evaluate", f"--embeddings={folder}/test.npz", output)
    plain = json.loads((tmp_path / "test.json").read_text())
    for names in ("csls", "inverted_softmax,qb_norm"):
        succeed("experiments.evaluate", *flags(folder, hubness=names), output)
    found = json.loads((tmp_path / "test.json").read_text())
    assert list(found["hubness"]) == ["bank", "csls", "inverted_softmax", "qb_norm"]
    del found["hubness"]
    assert found == plain
    succeed("experiments.evaluate", *flags(folder, hubness="nnn", bank_items=100), output)
    found = json.loads((tmp_path / "test.json").read_text())
    assert list(found["hubness"]) == ["bank", "nnn"]
    assert found["hubness"]["bank"]["videos"] == 100


def test_a_large_bank_is_drawn_from_by_seed(folder: pathlib.Path) -> None:
    several = [succeed("experiments.evaluate", *flags(folder, bank_items=50)) for _ in range(2)]
    assert several[0] == several[1]
    assert "a bank of 50 videos and " in several[0]
    assert "of train (drawn from 300 pairs)" in several[0]


def test_settings_chosen_on_the_split_itself_are_said_to_be(folder: pathlib.Path) -> None:
    printed = succeed(
        *("experiments.evaluate", *flags(folder, embeddings=folder / "validation.npz")),
    )
    assert "for each direction by itself: this very split, which flatters them" in printed


def test_other_spaces_and_known_items_are_refused(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    narrow = save(tmp_path / "narrow.npz", "train", 8)
    assert f"{narrow} has embeddings of width 8, " in refused(*flags(folder, bank=narrow))
    other = save(tmp_path / "other.npz", "validation", meta={"model": "b" * 64})
    assert f"{other} was embedded by model bbbbbbbbbbbb, " in refused(
        *flags(folder, validation=other)
    )
    ids = [f"train_v{n}" for n in range(299)] + ["test_v5"]
    known = save(tmp_path / "known.npz", "train", video_ids=ids)
    line = refused(*flags(folder, bank=known))
    assert f"{known} holds 1 video ids of {folder}/test.npz, such as 'test_v5': hubs would" in line
    ids = [f"train_t{n}" for n in range(149)] + ["validation_t5"]
    known = save(tmp_path / "known.npz", "train", music_ids=ids)
    assert "holds 1 music ids of" in refused(*flags(folder, bank=known))
    line = refused(*flags(folder, validation=folder / "test.npz"))
    assert "holds the split 'test'" in line or "the split 'test'" in line
    assert "settings would be chosen on what they are measured on" in line


def test_ids_in_another_unicode_form_are_the_same(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ids = [f"n{n}" for n in range(299)]
    bank = save(tmp_path / "bank.npz", "train", video_ids=[*ids, "cafe\u0301"])
    tested = [f"v{n}" for n in range(89)]
    test = save(tmp_path / "test.npz", "test", video_ids=[*tested, "caf\u00e9"])
    assert "holds 1 video ids of" in refused(*flags(folder, bank=bank, embeddings=test))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hubness": "csls,sofmax"},
            "--hubness: unknown 'sofmax'; expected all, or some of csls, nn",
        ),
        ({"hubness": "csls,csls"}, "--hubness=csls,csls: expected at least one name, each once"),
        ({"hubness": ""}, "--hubness= is empty: give it a value or leave it out"),
        ({"bank": None}, "--hubness with --embeddings needs --bank=TRAIN.npz"),
        ({"validation": None}, "--hubness with --embeddings needs --bank=TRAIN.npz"),
        ({"hubness": None}, "--bank is of --hubness with --embeddings=FILE.npz"),
        ({"bank": "absent.npz"}, "absent.npz does not exist"),
        ({"embeddings": None, "workdir": "w"}, "--bank is of --hubness with --embeddings=FILE.npz"),
        ({"bank_items": 0}, "bank_items"),
    ],
)
def test_wrong_combinations_of_flags_are_answered(
    folder: pathlib.Path, changes: dict[str, object], message: str
) -> None:
    assert message in refused(*flags(folder, **changes))
