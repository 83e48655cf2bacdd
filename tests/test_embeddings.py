"""The npz of embeddings: streamed out, read back, and every way in which a file can be wrong."""

import io
import json
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from vmr import embeddings
from vmr.errors import UserError

Arrays = dict[str, np.ndarray]


def unit(seed: int, rows: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, 4))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def batches() -> list[Arrays]:
    """Two batches; track b has three videos, one of them in the second batch."""
    tracks = [["a", "b", "b"], ["c", "b"]]
    music = dict(zip("abc", unit(1, 3), strict=True))
    video, found, start = unit(0, 5), [], 0
    for ids in tracks:
        rows = slice(start, start + len(ids))
        found.append(
            {
                "video_emb": video[rows],
                "music_emb": np.stack([music[track] for track in ids]),
                "video_id": np.array([f"v{n}" for n in range(rows.start, rows.stop)], object),
                "music_id": np.array(ids, object),
            }
        )
        start = rows.stop
    return found


def test_a_file_holds_each_track_once_and_loads_without_pickle(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "embeddings.npz"
    embeddings.write(path, batches(), "test", {"step": 7})
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.testing.assert_array_equal(arrays["video_emb"], unit(0, 5))
    np.testing.assert_array_equal(arrays["music_emb"], unit(1, 3))
    assert arrays["music_ids"].tolist() == ["a", "b", "c"]
    assert arrays["gt_music_index"].tolist() == [0, 1, 1, 2, 1]
    assert arrays["gt_music_index"].dtype == np.int32
    assert str(arrays["split"]) == "test"
    assert list(tmp_path.iterdir()) == [path]


def test_the_form_of_a_file_is_pinned(tmp_path: pathlib.Path) -> None:
    """Names, order, types and headers, as files of earlier versions have them."""
    meta = {"config": {"seed": 1}, "step": 7, "dataset_fingerprint": "ab", "created": "2024-01-01"}
    groups = [batch | {"group": np.arange(len(batch["music_id"]))} for batch in batches()]
    embeddings.write(tmp_path / "written.npz", groups, "test", meta)
    rows = unit(0, 5), unit(1, 3), np.array([0, 1, 1, 2, 1])
    ids = {"video_ids": [f"v{n}" for n in range(5)], "music_ids": list("abc")}
    embeddings.save(tmp_path / "saved.npz", *rows, split="test", meta=meta, **ids)
    expected = {
        "video_emb": rows[0],
        "music_emb": rows[1],
        "video_ids": np.array(ids["video_ids"], "<U2"),
        "music_ids": np.array(ids["music_ids"], "<U1"),
        "gt_music_index": rows[2].astype("<i4"),
        "video_group": np.array([0, 1, 2, 0, 1], "<i4"),
        "music_group": np.array([0, 1, 0], "<i4"),
        "split": np.array("test"),
        "meta": np.array(
            '{"schema_version": 1, "config": {"seed": 1}, "step": 7, "dataset_fingerprint": "ab", '
            '"created": "2024-01-01"}'
        ),
    }
    for name, absent in (("written.npz", set()), ("saved.npz", {"video_group", "music_group"})):
        with zipfile.ZipFile(tmp_path / name) as archive:
            assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        kept = {member: rows for member, rows in expected.items() if member not in absent}
        assert list(members) == [f"{member}.npy" for member in kept]
        assert list(members.values()) == [npy(rows) for rows in kept.values()]


def test_loading_gives_what_collecting_gave(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "embeddings.npz"
    groups = [batch | {"group": np.arange(len(batch["music_id"]))} for batch in batches()]
    embeddings.write(path, groups, "test", {"step": 7})
    collected, loaded = embeddings.collect(groups, "test", {}), embeddings.load(path)
    for name in ("video_emb", "music_emb", "video_ids", "gt_music_index", "music_group"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(collected, name))
    assert loaded.meta["step"] == 7
    assert loaded.meta["schema_version"] == embeddings.SCHEMA_VERSION


def test_a_failure_half_way_leaves_the_earlier_file_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "embeddings.npz"
    embeddings.write(path, batches(), "test", {})
    before = path.read_bytes()

    def broken():  # type: ignore[no-untyped-def]
        yield batches()[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        embeddings.write(path, broken(), "test", {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def sound() -> Arrays:
    return {
        "video_emb": unit(0, 5),
        "music_emb": unit(1, 3),
        "video_ids": np.array(list("vwxyz")),
        "music_ids": np.array(list("abc")),
        "gt_music_index": np.array([0, 1, 1, 2, 1], np.int32),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("gt_music_index"), "no array 'gt_music_index'"),
        (lambda a: a.update(video_emb=unit(0, 5)[:, :3]), "length"),
        (lambda a: a.update(video_emb=unit(0, 5) * 2), "row 0 of video_emb has length 2"),
        (lambda a: a.update(video_emb=np.full((5, 4), np.nan)), "length nan"),
        (lambda a: a.update(video_emb=np.ones((5, 1))), "width 1, music_emb 4"),
        (lambda a: a.update(video_emb=np.ones(5)), r"shape \(5,\)"),
        (lambda a: a.update(video_ids=np.array(["v"])), r"video_ids has shape \(1,\)"),
        (lambda a: a.update(music_ids=np.array(list("aab"))), "not unique"),
        (lambda a: a.update(gt_music_index=np.array([0, 1, 1, 2, 3])), "from 0 to 2"),
        (lambda a: a.update(gt_music_index=np.zeros(5)), "from 0 to 2"),
        (lambda a: a.update(video_ids=np.array(list("vwxyz"), object)), "plain arrays"),
        (lambda a: a.update(meta=np.array("{")), "not a JSON string"),
        (lambda a: a.update(meta=np.array(b"{}")), r"meta has shape \(\) and type \|S2, expected"),
        (lambda a: a.update(split=np.array(b"test")), r"split has shape \(\) and type \|S4"),
        (lambda a: a.update(split=np.array(["a", "b"])), r"split has shape \(2,\)"),
        (lambda a: a.update(video_ids=np.array(list("vwxyz"), "S")), r"video_ids has type \|S1"),
        (lambda a: a.update(music_ids=np.arange(3)), "music_ids has type int64, expected unicode"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(
    tmp_path: pathlib.Path, change: Callable[[Arrays], object], message: str
) -> None:
    arrays = sound()
    change(arrays)
    path = tmp_path / "embeddings.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message) as raised:
        embeddings.load(path)
    assert str(path) in str(raised.value)


def test_what_is_no_npz_is_told_in_one_line(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        embeddings.load(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="not an npz"):
        embeddings.load(tmp_path / "text.npz")
    embeddings.write(tmp_path / "cut.npz", batches(), "test", {})
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not an npz"):
        embeddings.load(tmp_path / "cut.npz")


def test_half_precision_of_others_is_accepted_and_scored_in_float32(
    tmp_path: pathlib.Path,
) -> None:
    arrays = sound()
    arrays["video_emb"] = arrays["video_emb"].astype(np.float16)
    np.savez(tmp_path / "half.npz", **arrays)
    assert embeddings.load(tmp_path / "half.npz").video_emb.dtype == np.float32


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_member(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An npz whose `video_emb` is these bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("video_emb.npy", content)
        for name in sound().keys() - {"video_emb"}:
            archive.writestr(f"{name}.npy", npy(sound()[name]))
    return file.getvalue()


def patched(content: bytes, old: bytes, new: bytes, times: int = -1) -> bytes:
    assert old in content
    return content.replace(old, new, times)


ROWS = npy(unit(0, 500))
PACKED = with_member(ROWS, zipfile.ZIP_DEFLATED)
LOCAL, CENTRAL = b"PK\x03\x04\x14\x00", b"PK\x01\x02\x14\x03\x14\x00"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an npz"),
        (with_member(b""), r"video_emb\.npy is no npy file"),
        (with_member(b"hello"), r"video_emb\.npy is no npy file"),
        (with_member(ROWS[:40]), "EOF: reading array header"),
        (with_member(patched(ROWS, b"'shape'", b"'shaqe'")), "Header does not contain the correct"),
        (with_member(patched(ROWS, b"{'descr'", b"{'descr\xff")), "cannot be read as npy"),
        (with_member(patched(ROWS, b"(500, 4), }", b"(10**11,)}  ")[:99]), "cannot be read as npy"),
        (
            with_member(patched(ROWS, b"(500, 4), }     ", b"(50000000000,4)}")),
            "8,128 bytes, and 800,000,000,128 by its header",
        ),
        (
            PACKED[:200] + b"\xff" * 64 + PACKED[264:],
            "Error -3 while decompressing",
        ),
        (patched(with_member(ROWS), ROWS[2000:2008], b"\0" * 8), "Bad CRC-32"),
        (with_member(patched(ROWS, b"'<f4'", b"()   ")), "its header is cut or corrupt"),
        (with_member(patched(ROWS, b"(500, 4), }   ", b"(10**30, 0), }")), "read as npy"),
        (  # Deflate64
            patched(
                patched(with_member(ROWS), LOCAL + b"\0\0\0\0", LOCAL + b"\0\0\x09\0"),
                CENTRAL + b"\0\0\0\0",
                CENTRAL + b"\0\0\x09\0",
            ),
            "compression",
        ),
        (  # encrypted
            patched(
                patched(with_member(ROWS), LOCAL + b"\0\0", LOCAL + b"\1\0"),
                CENTRAL + b"\0\0",
                CENTRAL + b"\1\0",
            ),
            "encrypted",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_archives_are_told_in_one_line(
    tmp_path: pathlib.Path, content: bytes, message: str
) -> None:
    path = tmp_path / "embeddings.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        embeddings.load(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_member_larger_than_its_bytes_can_hold_is_not_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "embeddings.npz"
    content = with_member(ROWS)
    sizes = len(ROWS).to_bytes(4, "little")
    path.write_bytes(patched(content, sizes + sizes, sizes + (2**31).to_bytes(4, "little")))
    with pytest.raises(UserError, match="says that it has 2,147,483,648 bytes, more than 8,128"):
        embeddings.load(path)


def test_saved_arrays_load_and_what_is_wrong_is_not_saved(tmp_path: pathlib.Path) -> None:
    path, arrays = tmp_path / "saved.npz", sound()
    rows = arrays["video_emb"], arrays["music_emb"], arrays["gt_music_index"]
    embeddings.save(path, *rows, split="test", meta={"of": "mine"})
    loaded = embeddings.load(path)
    np.testing.assert_array_equal(loaded.video_emb, arrays["video_emb"])
    assert loaded.music_ids.tolist() == ["0", "1", "2"]
    assert (loaded.split, loaded.meta["of"]) == ("test", "mine")
    with np.load(path, allow_pickle=False) as archive:
        assert archive["gt_music_index"].dtype == np.int32
        assert json.loads(str(archive["meta"]))["schema_version"] == embeddings.SCHEMA_VERSION
    before = path.read_bytes()
    with pytest.raises(UserError, match="row 0 of music_emb has length 2"):
        embeddings.save(path, rows[0], rows[1] * 2, rows[2])
    with pytest.raises(UserError, match="split is 3, expected the name of one"):
        embeddings.save(path, *rows, split=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="music_ids are not unique"):
        embeddings.save(path, *rows, music_ids=list("aab"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
