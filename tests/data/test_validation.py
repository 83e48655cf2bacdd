"""Validation: each kind of fault is found, told apart from a warning, and stops training."""

import json
import shutil
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tensorflow_datasets.core.utils.shard_utils import ShardConfig

from vmr.data.dataset import Dataset, chance_levels
from vmr.data.items import pair_ids
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.data.validation import report as validation
from vmr.data.validation.checks import SplitFindings, TextFindings
from vmr.data.validation.leakage import Hashed, first_rows, shared_contents, shared_ids
from vmr.data.validation.report import format_report, require_valid, validate
from vmr.errors import UserError


def test_a_sound_dataset_is_valid_and_the_report_lies_beside_it(small_planted):
    report = validate(small_planted.data_dir)
    assert report.ok
    assert report.warnings == []
    assert report.fingerprint == small_planted.fingerprint
    stored = json.loads((small_planted.data_dir / "validation.json").read_text())
    assert stored["fingerprint"] == report.fingerprint
    assert stored["splits"]["test"]["tracks"] == 20
    text = format_report(report)
    assert "train: 180 videos, 120 tracks" in text
    assert "chance v2m: R@1 0.83 %" in text
    assert text.endswith("valid: 0 errors, 0 warnings")


def test_videos_and_tracks_in_two_splits_are_errors(write, vectors, vector_schema):
    train, held_out = vectors(6), vectors(4, start=10)
    leaked_track = replace(held_out[0], music_id=train[2].music_id, music=train[2].music)
    dataset = write(vector_schema, train=train, validation=[*held_out[1:], leaked_track, train[0]])
    errors = "\n".join(validate(dataset.data_dir).errors)
    assert "train and validation share videos: 1 (v0)" in errors
    assert "train and validation share tracks: 2 (m0, m2)" in errors


def test_a_copy_of_a_pair_in_another_split_is_an_error(write, vectors, vector_schema):
    train, held_out = vectors(6), vectors(4, start=10)
    held_out[2] = replace(train[4], video_id="other", music_id="other too")
    report = validate(write(vector_schema, train=train, test=held_out).data_dir)
    assert report.errors == ["train and test share whole pairs under other ids: 1 (v4 = other)"]


def test_equal_features_of_one_modality_in_two_splits_are_a_warning(write, vectors, vector_schema):
    train, held_out = vectors(6), vectors(6, start=10)
    # Two videos have the music of a training track under another id, a third a training video.
    for row in (1, 2):
        held_out[row] = replace(held_out[row], music_id="again", music=train[4].music)
    held_out[3] = replace(held_out[3], video=train[0].video)
    report = validate(write(vector_schema, train=train, validation=held_out).data_dir)
    assert report.ok
    assert report.warnings == [
        "train and validation share video features under other ids: 1 (v0 = v13)",
        "train and validation share music features under other ids: 1 (m4 = again)",
    ]


def hashed(ids, contents=()):
    """Items by numbers instead of hashes; the name of each is its record's number."""
    ids = np.array(ids, np.int64)
    return Hashed(ids, np.array(contents or ids, np.int64), lambda numbers: map(str, numbers))


def test_the_hashes_of_two_splits_are_compared_as_sets_are():
    rng = np.random.default_rng(0)
    one, other = (
        hashed(range(start, start + 500), rng.integers(-300, 300, size=500).tolist())
        for start in (0, 1000)
    )
    both = set(one.contents.tolist())
    expected = sum(content in both for content in other.contents.tolist())
    assert shared_contents(one, other).count == expected
    empty = hashed([])
    assert shared_contents(empty, one).count == shared_contents(one, empty).count == 0
    assert shared_ids(one, other).count == shared_ids(empty, one).count == 0


def test_shared_ids_come_in_alphabetical_order():
    assert str(shared_ids(hashed([5, 6, 7]), hashed(range(20)))) == "3 (5, 6, 7)"
    assert str(shared_ids(hashed(range(20)), hashed(range(8, 13)))) == "5 (0, 1, 2, …)"
    assert str(shared_ids(hashed(range(20)), hashed(range(20)))) == "20 (0, 1, 10, …)"


def test_first_rows_are_those_of_a_dictionary():
    hashes = np.random.default_rng(0).integers(-20, 20, size=200)
    first = {}
    expected = [first.setdefault(content, row) for row, content in enumerate(hashes.tolist())]
    assert first_rows(hashes).tolist() == expected
    assert first_rows(hashes[:0]).tolist() == []


def test_items_are_compared_over_batches_and_shards(write, vectors, vector_schema, monkeypatch):
    """Ids that a finding names are read again from shards: here from the second and the third."""
    monkeypatch.setattr(ShardConfig, "min_shard_size", 8000)
    pairs = vectors(300)
    pairs[170] = replace(pairs[170], video=pairs[20].video)
    pairs[250] = replace(pairs[250], music_id="m8")
    dataset = write(vector_schema, train=pairs)
    assert len(dataset.shards["train"]) > 2
    (duplicate, contradiction) = validate(dataset.data_dir).warnings[:2]
    expected = "train: 1 (v{} = v{}) video features are duplicates of another item's"
    assert duplicate in (expected.format(170, 20), expected.format(20, 170))
    assert contradiction == "train: 1 (m8) music ids have different features in different pairs"


def test_ids_that_are_missing_are_named_by_their_numbers(write, vectors, vector_schema):
    pairs = vectors(70)
    pairs[3] = replace(pairs[3], music_id="")
    dataset = write(vector_schema, train=pairs)
    stored = [name for name, _ in pair_ids(dataset, "train")]
    report = validate(dataset.data_dir)
    number = stored.index("v3")
    assert report.errors == [f"train: 1 (example {number}) pairs lack a video id or a music id"]
    assert report.splits["train"]["examples"] == 69


def test_a_pair_takes_few_bytes(small_planted):
    """Two ids and two features of 8 bytes each, and the number of the track."""
    findings = SplitFindings(small_planted)
    schema, pairs = small_planted.schema, 64
    stored = {
        name: np.array([bytes(of.row_bytes)] * pairs, object)
        for name, of in schema.modalities.items()
    }
    tracemalloc.start()
    try:
        for start in range(0, 200 * pairs, pairs):
            names = [b"%d" % number for number in range(start, start + pairs)]
            ids = {f"{side}_id": np.array(names, object) for side in schema.modalities}
            findings.add(stored | ids | {"track": np.arange(start, start + pairs)})
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 48 * 200 * pairs + 20_000


def test_every_byte_is_read_once(write, vectors, vector_schema, monkeypatch):
    dataset = write(vector_schema, train=vectors(100), validation=vectors(70, start=200))

    def content(dataset):
        raise AssertionError("the shards were read for their fingerprint alone")

    monkeypatch.setattr(Dataset, "content", content)
    report = validate(dataset.data_dir)
    assert report.ok
    assert report.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_errors(write, vectors, vector_schema, value):
    pairs = vectors(5)
    pairs[3].music[1] = value
    report = validate(write(vector_schema, train=pairs).data_dir)
    assert report.errors == ["train: 1 (m3) music features hold NaN or infinity"]
    assert report.warnings == ["there is no validation split, which training needs"]


def test_duplicates_and_constants_are_warnings(write, vectors, vector_schema):
    pairs = vectors(6)
    for pair in pairs:
        pair.music[2] = 0.25
    pairs[4].video[:] = pairs[1].video
    pairs[5].video[:] = 3.0
    report = validate(write(vector_schema, train=pairs).data_dir)
    warnings = "\n".join(report.warnings)
    assert report.ok
    assert "1 (v5) video features are one constant value" in warnings
    assert "v1" in warnings
    assert "video features are duplicates of another item's" in warnings
    assert "1 of 3 music dimensions are constant (2)" in warnings


def test_one_track_with_two_features_is_a_warning(write, vectors, vector_schema):
    pairs = vectors(4, videos_per_track=2)
    pairs[1] = replace(pairs[1], music=pairs[1].music + 1)
    report = validate(write(vector_schema, train=pairs).data_dir)
    assert any("ids have different features in different pairs" in line for line in report.warnings)


def test_multiplicity_and_lengths_are_told(write, vectors):
    pairs = [
        replace(pair, video=np.ones((length, 4), np.float32) * length)
        for length, pair in zip((1, 4, 2), vectors(3, videos_per_track=2), strict=True)
    ]
    dataset = write(Schema(Modality(4, sequence=True), Modality(3)), train=pairs)
    facts = validate(dataset.data_dir).splits["train"]
    assert facts["tracks_by_videos"] == {"1": 1, "2": 1}
    assert facts["video"]["frames"] == {"min": 1, "median": 2, "max": 4}


def with_text(pairs, texts):
    return [replace(pair, text=text) for pair, text in zip(pairs, texts, strict=True)]


def test_text_is_counted(write, vectors):
    schema = Schema(Modality(4), Modality(3), text=Text())
    dataset = write(
        schema,
        train=with_text(vectors(3), ("slow", "", "fast guitar")),
        validation=with_text(vectors(2, start=50), ("", "")),
    )
    report = validate(dataset.data_dir)
    assert report.ok
    assert report.splits["train"]["text"] == {"present": 2, "width": 0, "tokens": None}
    assert report.warnings == ["validation: no video has text"]
    assert "  text: strings; 2 of 3 videos have it" in format_report(report)


def test_faulty_embeddings_of_text_are_errors(write, vectors):
    schema = Schema(Modality(4), Modality(3), text=Text(2))
    embeddings = [np.ones((length, 2), np.float32) for length in (3, 1, 0, 2)]
    embeddings[1][0, 1] = np.nan
    report = validate(write(schema, train=with_text(vectors(4), embeddings)).data_dir)
    assert report.errors == ["train: 1 (v1) text embeddings hold NaN or infinity"]
    facts = {"present": 3, "width": 2, "tokens": {"min": 1, "median": 2, "max": 3}}
    assert report.splits["train"]["text"] == facts


def test_embeddings_of_another_width_are_errors():
    findings = TextFindings(Text(3))
    for item, size in (("a", 12), ("b", 8), ("c", 0), ("d", 24)):
        findings.add(item, bytes(size))
    assert list(findings.errors()) == [
        "1 (b) text embeddings have a wrong size, expected 3 numbers a token"
    ]
    assert findings.facts()["present"] == 2


def test_a_dataset_of_one_modality_is_valid(write):
    rng = np.random.default_rng(0)
    pairs = [Pair(name, name, None, rng.normal(size=(2, 3)).astype("f4")) for name in "abc"]
    report = validate(write(Schema(None, Modality(3, True)), train=pairs).data_dir)
    assert report.ok
    assert set(report.splits["train"]) == {
        "examples", "tracks", "tracks_by_videos", "chance", "music",
    }  # fmt: skip
    assert "video:" not in format_report(report)


def test_a_missing_training_split_is_an_error(write, vectors, vector_schema):
    report = validate(write(vector_schema, test=vectors(3)).data_dir)
    assert report.errors == ["there is no train split"]


def test_damage_after_the_build_is_found_by_shard_and_record(write, vectors, vector_schema):
    dataset = write(vector_schema, train=vectors(5))
    require_valid(dataset.data_dir)
    (shard,) = dataset.shards["train"]
    shard.path.write_bytes(shard.path.read_bytes()[:-3])
    errors = validate(dataset.data_dir).errors
    assert "their fingerprint differs" in errors[0]
    assert "record 4 is truncated" in errors[1]
    with pytest.raises(UserError, match="validation failed"):
        require_valid(dataset.data_dir)


def test_require_valid_trusts_the_report_of_this_content_only(write, vectors, vector_schema):
    pairs = vectors(5)
    pairs[0].video[0] = np.nan
    dataset = write(vector_schema, train=pairs)
    expected = r"hold NaN or infinity; --config\.dataset\.allow_invalid=true overrides"
    with pytest.raises(UserError, match=expected):
        require_valid(dataset.data_dir)
    report = dataset.data_dir / "validation.json"
    content = json.loads(report.read_text()) | {"errors": []}
    report.write_text(json.dumps(content))
    require_valid(dataset.data_dir)
    report.write_text(json.dumps(content | {"fingerprint": "of other content"}))
    with pytest.raises(UserError, match=expected):
        require_valid(dataset.data_dir)
    for unreadable in (b"not JSON", b"\xff\xfe"):
        report.write_bytes(unreadable)
        with pytest.raises(UserError, match=expected):
            require_valid(dataset.data_dir)


def test_shards_that_changed_since_the_report_are_looked_at_again(write, vectors, vector_schema):
    dataset = write(vector_schema, train=vectors(5))
    other = type(write)(write.folder.with_name("other"))(vector_schema, train=vectors(5, start=5))
    require_valid(dataset.data_dir)
    (shard,), (changed,) = dataset.shards["train"], other.shards["train"]
    shutil.copyfile(changed.path, shard.path)
    assert shard.path.stat().st_size == changed.path.stat().st_size
    with pytest.raises(UserError, match="their fingerprint differs"):
        require_valid(dataset.data_dir)


def test_a_copied_dataset_is_validated_once_more(write, vectors, vector_schema, monkeypatch):
    dataset = write(vector_schema, train=vectors(5))
    require_valid(dataset.data_dir)
    copy = dataset.data_dir.with_name("copy")
    shutil.copytree(dataset.data_dir, copy, copy_function=shutil.copyfile)
    looked_at = []
    monkeypatch.setattr(
        validation, "validate", lambda folder: looked_at.append(folder) or validate(folder)
    )
    for _ in range(2):
        require_valid(copy)
    assert looked_at == [copy]


def test_a_missing_shard_is_named(write, vectors, vector_schema):
    dataset = write(vector_schema, train=vectors(5))
    require_valid(dataset.data_dir)
    dataset.shards["train"][0].path.unlink()
    with pytest.raises(UserError, match="00000-of-00001: missing, expected a shard of"):
        require_valid(dataset.data_dir)


def test_chance_levels_by_hand():
    """Two tracks, one with three videos of four: R@1 by m2v is (3/4 + 1/4) / 2."""
    assert chance_levels([3, 1]) == {
        "v2m": {"R@1": 50.0, "R@10": 100.0},
        "m2v": {"R@1": 50.0, "R@10": 100.0},
    }
    levels = chance_levels([1] * 1000)
    assert levels["v2m"] == {"R@1": 0.1, "R@10": 1.0}
    assert levels["m2v"] == pytest.approx(levels["v2m"])
