"""What a spec shows of a batch: clips and their masks, the draws behind them, both pairings."""

from functools import partial
from itertools import islice

import numpy as np
import pytest

from vmr.data.batch_spec import BatchSpec
from vmr.data.modality import Modality
from vmr.data.pipeline import eval_batches, train_batches
from vmr.data.sampling import contiguous, global_sparse
from vmr.data.schema import Pair, Schema, Text
from vmr.errors import UserError

ITEMS = 11
SPARSE = BatchSpec("global_sparse", clips=4)
METHODS = ("global_sparse", "contiguous")


def shown(batch, name="video"):
    """By item, the numbers of the clips that a batch shows of it."""
    clips = {}
    for item, rows, mask in zip(batch["video_id"], batch[name], batch[f"{name}_mask"], strict=True):
        assert (rows[~mask] == 0).all()
        clips[item] = rows[mask][:, 0].astype(int).tolist()
    return clips


def evaluated(dataset, spec, **options):
    (batch,) = eval_batches(dataset, "train", 100, spec, **options)
    return batch


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_shows_fixed_clips_as_they_are_stored(ladder, method):
    batch = evaluated(ladder, BatchSpec(method, clips=4))
    assert batch["video"].shape == (11, 4, 2)
    assert batch["music"].shape == (11, 4, 3)
    assert [batch[name].dtype for name in ("video", "music")] == [np.uint8, np.float32]
    assert [batch[f"{name}_mask"].dtype for name in ("video", "music")] == [bool, bool]
    choose = {"global_sparse": global_sparse, "contiguous": contiguous}[method]
    for item, clips in shown(batch).items():
        assert clips == choose(int(item[1:]), np.full(4, 0.5)).tolist()
    for item, clips in shown(batch, "music").items():
        assert clips == choose(int(item[1:]) + 1, np.full(4, 0.5)).tolist()
    again = evaluated(ladder, BatchSpec(method, clips=4))
    np.testing.assert_array_equal(again["video"], batch["video"])


def test_evaluation_does_not_depend_on_the_batch_size(ladder):
    whole = shown(evaluated(ladder, SPARSE))
    for size in (3, 9):
        parts = [shown(batch) for batch in eval_batches(ladder, "train", size, SPARSE)]
        assert {item: clips for part in parts for item, clips in part.items()} == whole


def drawn(dataset, size, items, spec=SPARSE, seed=5):
    """The clips of the first items of the stream, in its order."""
    batches = islice(train_batches(dataset, "train", size, seed, spec=spec), -(-items // size))
    rows = [(item, *pair) for batch in batches for item, pair in both(batch)]
    return rows[:items]


def both(batch):
    video, music = shown(batch), shown(batch, "music")
    return [(item, (video[item], music[item])) for item in batch["video_id"]]


@pytest.mark.parametrize("method", METHODS)
def test_draws_are_the_same_however_items_are_batched(ladder, method):
    spec = BatchSpec(method, clips=4)
    by_3, by_7, by_9 = (drawn(ladder, size, 7, spec) for size in (3, 7, 9))
    assert by_3 == by_7 == by_9


@pytest.mark.parametrize(("size", "starts"), [(3, (1, 2, 5)), (5, (2, 7)), (9, (1,))])
def test_resumed_draws_are_those_of_an_uninterrupted_run(ladder, size, starts):
    """Within an epoch and at its end; an epoch has 3, 2 or 1 batches."""
    whole = list(islice(train_batches(ladder, "train", size, 5, spec=SPARSE), 9))
    for start in starts:
        resumed = train_batches(ladder, "train", size, 5, start_step=start, spec=SPARSE)
        for one, other in zip(whole[start:], islice(resumed, 9 - start), strict=True):
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_draws_of_a_process_are_those_of_its_rows_of_the_batches_of_one(ladder):
    whole = islice(train_batches(ladder, "train", 5, 5, 1, SPARSE), 6)
    parts = [train_batches(ladder, "train", 5, 5, 1, SPARSE, slice(*of)) for of in ((0, 2), (2, 5))]
    for one, *cut in zip(whole, *(islice(part, 6) for part in parts), strict=True):
        for name in one:
            joined = np.concatenate([batch[name] for batch in cut])
            np.testing.assert_array_equal(one[name], joined)


def test_epochs_draw_differently(ladder):
    batches = train_batches(ladder, "train", ITEMS, 5, spec=SPARSE)
    first, second = (shown(batch) for batch in islice(batches, 2))
    assert first.keys() == second.keys()
    assert first["v4"] == second["v4"] == [0, 1, 2, 3]
    assert first["v21"] != second["v21"]


def test_the_seed_decides_the_draws(ladder):
    one, same, other = (
        {item: clips for item, *clips in drawn(ladder, 11, 11, seed=seed)} for seed in (1, 1, 2)
    )
    assert one == same != other


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["video", "music"])
def test_an_item_with_itself_shows_two_samples(ladder, method, side):
    batch = evaluated(ladder, BatchSpec(method, clips=4, pairing=side))
    width, extra, items = {"video": (2, 0, 10), "music": (3, 1, 11)}[side]  # v1 is one clip
    assert batch["video"].shape == batch["music"].shape == (items, 4, width)
    one, other = shown(batch), shown(batch, "music")
    for item in one:
        length = int(item[1:]) + extra
        assert len(one[item]) == len(other[item]) == min(4, length // 2) > 0
        assert not set(one[item]) & set(other[item])


@pytest.mark.parametrize("segments", [1, 3])
def test_of_an_item_of_one_clip_there_are_no_two_samples_to_evaluate(ladder, segments):
    spec = BatchSpec("global_sparse", clips=4, pairing="video")
    pages = list(eval_batches(ladder, "train", 4, spec, segments))
    left = [item for page in pages for item in page["video_id"]]
    everything = evaluated(ladder, SPARSE)["video_id"].tolist()
    assert left == [item for item in everything if item != "v1"]
    assert [len(page["track"]) for page in pages] == [4, 4, 2]


@pytest.mark.parametrize("segments", [2, 3, 8])
def test_parts_of_an_item_with_itself_show_no_clip_twice(ladder, segments):
    spec = BatchSpec("global_sparse", clips=2, pairing="video")
    batch = evaluated(ladder, spec, segments=segments)
    for row, item in enumerate(batch["video_id"]):
        masks = [batch[f"{name}_mask"][row] for name in ("video", "music")]
        assert masks[0].any(axis=1).sum() == min(segments, int(item[1:]) // 2)
        one, other = (
            set(batch[name][row][mask][:, 0].tolist())
            for name, mask in zip(("video", "music"), masks, strict=True)
        )
        assert one
        assert not one & other


def test_a_split_of_nothing_to_compare_with_itself_is_refused(write):
    ones = np.ones((1, 2), np.float32)
    pairs = [Pair(f"v{row}", f"m{row}", ones * row, np.ones(3, np.float32)) for row in range(3)]
    dataset = write(Schema(Modality(2, True), Modality(3)), train=pairs)
    spec = BatchSpec("global_sparse", clips=4, pairing="video")
    with pytest.raises(UserError, match="train: every video sequence has a single clip") as told:
        evaluated(dataset, spec)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("side", ["video", "music"])
def test_a_vector_is_not_compared_with_itself(small_planted, side):
    spec = BatchSpec("global_sparse", clips=4, pairing=side)
    expected = f"its {side} is one vector an item, expected sequences"
    for batches in (eval_batches, partial(train_batches, seed=0)):
        with pytest.raises(UserError, match=expected) as told:
            batches(small_planted, "train", 4, spec=spec)
        assert "\n" not in str(told.value)


def test_an_item_with_itself_is_drawn_twice_in_training(ladder):
    spec = BatchSpec("global_sparse", clips=4, pairing="music")
    pairs = {item: clips for item, *clips in drawn(ladder, 11, 11, spec)}
    assert pairs["v21"][0] != pairs["v21"][1]


def test_videos_of_one_track_are_items_of_their_own_beside_themselves(write):
    frames = np.arange(24, dtype=np.float32).reshape(2, 12, 1)
    pairs = [Pair(f"v{row}", "m", frames[row], np.ones(3, np.float32)) for row in range(2)]
    dataset = write(Schema(Modality(1, True), Modality(3)), train=pairs)
    batch = evaluated(dataset, BatchSpec("global_sparse", clips=2, pairing="video"))
    assert batch["music_id"].tolist() == batch["video_id"].tolist()
    assert len(set(batch["track"].tolist())) == 2
    assert (batch["track"] >= 0).all()


def test_a_vector_stays_a_vector(write):
    pair = Pair("v", "m", np.ones((9, 2), np.float32), np.full(3, 0.5, np.float32))
    dataset = write(Schema(Modality(2, True), Modality(3)), train=[pair])
    for options in ({}, {"segments": 3}):
        batch = evaluated(dataset, SPARSE, **options)
        np.testing.assert_array_equal(batch["music"], np.full((1, 3), 0.5))
        assert "music_mask" not in batch
        assert "video_mask" in batch


def test_segments_show_clips_of_each_part(ladder):
    batch = evaluated(ladder, BatchSpec("global_sparse", clips=2), segments=3)
    assert batch["video"].shape == (11, 3, 2, 2)
    assert batch["video_mask"].shape == (11, 3, 2)
    assert batch["video"].dtype == np.uint8
    rows = {item: row for row, item in enumerate(batch["video_id"])}
    of_ten = batch["video"][rows["v10"], :, :, 0]  # parts 0-2, 3-5, 6-9
    assert of_ten.tolist() == [[0, 2], [3, 5], [7, 9]]
    masks = {item: batch["video_mask"][row].astype(int).tolist() for item, row in rows.items()}
    assert masks["v10"] == [[1, 1], [1, 1], [1, 1]]
    assert masks["v4"] == [[1, 0], [1, 0], [1, 1]]  # parts 0, 1, 2-3
    assert masks["v2"] == [[1, 0], [1, 0], [0, 0]]
    assert masks["v1"] == [[1, 0], [0, 0], [0, 0]]


def test_segments_of_a_view_of_means_are_the_means_of_their_parts(ladder):
    batch = evaluated(ladder, BatchSpec(), segments=2)
    assert batch["music"].shape == (11, 2, 1, 3)
    assert batch["video"].dtype == np.float32
    row = batch["video_id"].tolist().index("v8")  # its music has clips 0-3 and 4-8
    assert batch["music"][row, :, 0, 0].tolist() == [1.5, 6.0]
    bytes_of_eight = np.array([1.5, 5.5]) * (4 / 255) + (4 / 512 - 2)
    np.testing.assert_allclose(batch["video"][row, :, 0, 0], bytes_of_eight, rtol=1e-6)


def test_a_sequence_without_clips_is_named(write):
    pairs = [
        Pair(f"v{row}", f"m{row}", np.ones((3, 2), np.float32), np.ones((row - 1, 3), np.float32))
        for row in (1, 2, 3)
    ]
    dataset = write(Schema(Modality(2, True), Modality(3, True)), train=pairs)
    expected = "train: the music sequence of 'm1' has length 0, expected at least one clip"
    for pairing in ("video_music", "music"):
        spec = BatchSpec("global_sparse", clips=2, pairing=pairing)
        for batches in (eval_batches, partial(train_batches, seed=0)):
            with pytest.raises(UserError, match=expected):
                list(islice(batches(dataset, "train", 3, spec=spec), 3))


def test_text_comes_with_the_pair_only_if_asked_for(write, vectors):
    pairs = [
        Pair(pair.video_id, pair.music_id, pair.video, pair.music, text=text)
        for pair, text in zip(vectors(3), ("Slow guitar", "", "slow"), strict=True)
    ]
    dataset = write(Schema(Modality(4), Modality(3), text=Text()), train=pairs)
    assert "text" not in evaluated(dataset, None)
    batch = evaluated(dataset, BatchSpec(tokens=3, vocabulary=50))
    rows = {item: row for row, item in enumerate(batch["video_id"])}
    assert batch["text"].shape == batch["text_mask"].shape == (3, 3)
    assert batch["text"].dtype == np.int32
    assert batch["text"][rows["v0"], 0] == batch["text"][rows["v2"], 0]
    assert batch["text_mask"].sum(axis=1)[[rows[f"v{i}"] for i in range(3)]].tolist() == [2, 0, 1]


def test_embedded_text_keeps_its_numbers(write, vectors):
    embeddings = [np.arange(6, dtype=np.float32).reshape(3, 2), np.zeros((0, 2), np.float32)]
    pairs = [
        Pair(pair.video_id, pair.music_id, pair.video, pair.music, text=text)
        for pair, text in zip(vectors(2), embeddings, strict=True)
    ]
    dataset = write(Schema(Modality(4), Modality(3), text=Text(2)), train=pairs)
    batch = evaluated(dataset, BatchSpec(tokens=2))
    rows = {item: row for row, item in enumerate(batch["video_id"])}
    assert batch["text"][rows["v0"]].tolist() == [[0, 1], [2, 3]]
    assert batch["text"][rows["v1"]].tolist() == [[0, 0], [0, 0]]
    assert batch["text_mask"][[rows["v0"], rows["v1"]]].tolist() == [[True] * 2, [False] * 2]
