import json

import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.errors import UserError
from vmr.evaluation.diagnosis import false_negatives as diagnosed
from vmr.evaluation.diagnosis import similarity
from vmr.evaluation.diagnosis.batch_negatives import batch_negatives, compatible_share
from vmr.evaluation.diagnosis.false_negatives import (
    Items,
    false_negatives,
    pair_deviations,
)
from vmr.evaluation.diagnosis.similarity import NullDistribution, Rule, measured_rule

# Alike from a cosine of 0.9 on, in both modalities.
HAND_RULE = Rule(
    video=NullDistribution(0.0, 0.3), music=NullDistribution(0.0, 0.45), deviations=2.0
)


def directions(degrees):
    angle = np.deg2rad(degrees)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def hand_made(**changes):
    """Four videos of three tracks; videos 0 and 1 share track 0."""
    items = {
        "gt_music_index": np.array([0, 0, 1, 2]),
        # Each video stands where the scores of its row say.
        "video_emb": np.array([[0.5, 0.7, 0.6], [0.6, 0.3, 0.9], [0.8, 0.5, 0.1], [0.1, 0.1, 0.9]]),
        "music_emb": np.eye(3),
        # Video 2 is as video 0; cosine with video 1 is 0.
        "video_inputs": directions([0, 90, 10, 180]) * [[3.0], [1.0], [2.0], [1.0]],
        # Track 2 is as track 0.
        "music_inputs": directions([0, 120, 20]),
        "video_group": np.array([7, 7, 7, 8]),
        "music_group": np.array([7, 7, 8]),
    }
    return Items(**(items | changes))


def test_hand_checked_suspects():
    found = false_negatives(hand_made(), HAND_RULE)
    # v2m: above video 0's partner (0.5) stand track 1, whose video is alike, and track 2, alike
    # itself; above video 1's (0.6) track 2; above video 2's (0.5) track 0 by video 0, its alike.
    v2m = found["v2m"]
    assert v2m["queries"] == 4
    assert v2m["above"] == 4
    assert v2m["suspected"] == 4
    assert v2m["queries_with_suspects"] == 3
    # Truly compatible above: (0, track 1) and (2, track 0); both suspected.
    assert v2m["truth"] | {"lift": None} == {
        "compatible_above": 2,
        "confirmed": 2,
        "precision": 0.5,
        "recall": 1.0,
        "base_rate": 0.5,
        "lift": None,
    }
    assert v2m["truth"]["lift"] == 1.0
    # m2v: track 0's best own video scores 0.6, video 2 stands above it. Track 1's scores 0.5,
    # video 0 above it. Track 2's scores 0.9: video 1 ties with it, which is not above.
    m2v = found["m2v"]
    assert (m2v["queries"], m2v["above"], m2v["suspected"]) == (3, 2, 2)
    assert m2v["queries_with_suspects"] == 2
    assert m2v["truth"]["precision"] == m2v["truth"]["recall"] == 1.0


def test_examples_name_the_most_alike_first_and_say_why():
    found = false_negatives(hand_made(), HAND_RULE, examples=2)
    # Equal cosines of 10° between videos weigh 3.28 deviations, 20° between tracks 2.09.
    first, second = found["examples"]
    assert {(one["video"], one["track"]) for one in (first, second)} == {(0, 1), (2, 0)}
    for one in (first, second):
        assert one["video_deviations"] == pytest.approx(np.cos(np.deg2rad(10)) / 0.3, rel=1e-5)
        assert one["compatible"] is True
    by_track = {one["track"]: one["music_deviations"] for one in (first, second)}
    assert by_track[1] == pytest.approx(np.cos(np.deg2rad(120)) / 0.45, rel=1e-5)
    json.dumps(found, allow_nan=False)


def test_without_groups_there_is_no_truth():
    found = false_negatives(hand_made(video_group=None, music_group=None), HAND_RULE)
    assert "truth" not in found["v2m"]
    assert all(at.keys() == {"deviations", "suspected"} for at in found["v2m"]["by_deviations"])
    assert {one["compatible"] for one in found["examples"]} == {None}


def test_a_track_without_a_video_is_suspected_by_its_music_alone():
    items = hand_made(gt_music_index=np.array([0, 0, 1, 1]), video_group=None, music_group=None)
    found = false_negatives(items, HAND_RULE, examples=10)
    assert found["m2v"]["queries"] == 2
    without = [one for one in found["examples"] if one["track"] == 2]
    assert {one["video"] for one in without} == {0, 1}
    assert all(one["video_deviations"] is None for one in without)
    json.dumps(found, allow_nan=False)


def naive(items, rule, asking=None):
    """One loop a pair: (suspected, above, compatible among both) of v2m and of m2v.

    `asking` holds the rows of the queries of each; None takes all.
    """
    video = items.video_inputs / np.linalg.norm(items.video_inputs, axis=1, keepdims=True)
    music = items.music_inputs / np.linalg.norm(items.music_inputs, axis=1, keepdims=True)
    index = items.gt_music_index
    scored = items.video_emb @ items.music_emb.T
    counts = {way: np.zeros(4, int) for way in ("v2m", "m2v")}
    for n in range(len(video)):
        for m in set(range(len(music))) - {index[n]}:
            similar = music[index[n]] @ music[m]
            strengths = [(similar - rule.music.median) / rule.music.deviation]
            for other in np.flatnonzero(index == m):
                similar = video[n] @ video[other]
                strengths.append((similar - rule.video.median) / rule.video.deviation)
            suspected = max(strengths) > rule.deviations
            true = items.video_group[n] == items.music_group[m]
            own = scored[index == m, m]
            ways = {
                "v2m": scored[n, m] > scored[n, index[n]],
                "m2v": len(own) > 0 and scored[n, m] > own.max(),
            }
            for way, above in ways.items():
                if asking is not None and (n if way == "v2m" else m) not in asking[way]:
                    continue
                counts[way] += above * np.array([1, suspected, true, suspected and true])
    return counts


def random_items():
    """60 videos of 17 of 20 tracks, and the rule of their inputs."""
    generator = np.random.default_rng(0)
    index = generator.integers(17, size=60)  # tracks 17 to 19 have no video
    groups = generator.integers(6, size=20)
    items = Items(
        video_emb=unit_rows(generator, 60, 4),
        music_emb=unit_rows(generator, 20, 4),
        video_inputs=5 * unit_rows(generator, 60, 5),
        music_inputs=unit_rows(generator, 20, 3),
        gt_music_index=index,
        video_group=groups[index],
        music_group=groups,
    )
    rule = measured_rule(items.video_inputs, items.music_inputs[index], index, deviations=1.2)
    return items, rule


def test_counts_are_those_of_single_pairs_in_blocks_of_any_size(monkeypatch):
    items, rule = random_items()
    expected = naive(items, rule)
    whole = false_negatives(items, rule)
    monkeypatch.setattr(similarity, "_SCORES", 60 * 7)
    found = false_negatives(items, rule)
    assert found == whole
    assert_counts(found, expected)
    strengths = [
        max(one["music_deviations"], one["video_deviations"] or -9) for one in found["examples"]
    ]
    assert len(strengths) == 10
    assert strengths == sorted(strengths, reverse=True)


def assert_counts(found, expected):
    for way in ("v2m", "m2v"):
        truth = found[way]["truth"]
        counted = [found[way]["above"], found[way]["suspected"]]
        counted += [truth["compatible_above"], truth["confirmed"]]
        np.testing.assert_array_equal(counted, expected[way])
        assert min(counted) > 0


@pytest.mark.parametrize("most", [10, 17, 40])
def test_of_many_queries_some_are_drawn_and_counted(monkeypatch, most):
    items, rule = random_items()
    monkeypatch.setattr(similarity, "SAMPLED", most)
    found = false_negatives(items, rule, seed=5)
    asking = {"v2m": np.arange(60), "m2v": np.unique(items.gt_music_index)}
    drawn = {way: similarity.sampled(rows, 5) for way, rows in asking.items()}
    assert_counts(found, naive(items, rule, drawn))
    for way, rows in drawn.items():
        assert found[way]["queries"] == len(rows) == min(most, len(asking[way]))
        sampled = most < len(asking[way])
        assert found[way].get("sampled_from") == (len(asking[way]) if sampled else None)
    assert {one["video"] for one in found["examples"]} <= set(drawn["v2m"])


def test_deviations_of_chosen_pairs_take_their_videos_alone(monkeypatch):
    items, rule = random_items()
    generator = np.random.default_rng(1)
    video, track = generator.choice([3, 8, 44], size=30), generator.integers(20, size=30)
    whole = pair_deviations(items, rule, video, track)
    monkeypatch.setattr(diagnosed, "SAMPLED", 59)
    np.testing.assert_allclose(pair_deviations(items, rule, video, track), whole, atol=1e-5)


def test_one_point_for_all_has_nothing_above_the_partner():
    generator = np.random.default_rng(1)
    row = unit_rows(generator, 1, 64)
    items = Items(
        video_emb=np.tile(row, (50, 1)),
        music_emb=np.tile(row, (50, 1)),
        video_inputs=unit_rows(generator, 50, 5),
        music_inputs=unit_rows(generator, 50, 5),
        gt_music_index=np.arange(50),
    )
    found = false_negatives(items, HAND_RULE)
    assert found["v2m"]["above"] == found["m2v"]["above"] == 0
    assert found["examples"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_inputs": np.ones((3, 2))}, "video_inputs has 3 rows, expected 4, one an item"),
        ({"music_inputs": np.full((3, 2), np.nan)}, "music_inputs: row 0 holds NaN"),
        ({"video_group": None}, "video_group and music_group come together"),
        ({"gt_music_index": np.array([0, 0, 1, 3])}, "video 3 points at track 3"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message) as raised:
        hand_made(**change)
    assert "\n" not in str(raised.value)


def test_the_rule_measures_what_is_usual(monkeypatch):
    """Cosines of random rows are near normal, of standard deviation 1/√width."""
    monkeypatch.setattr(similarity, "_HELD", 1000)
    generator = np.random.default_rng(2)
    rows = unit_rows(generator, 3000, 400), unit_rows(generator, 3000, 200)
    rule = measured_rule(*rows, np.arange(3000))
    for usual, width in ((rule.video, 400), (rule.music, 200)):
        assert usual.median == pytest.approx(0, abs=0.003)
        assert usual.deviation == pytest.approx(width**-0.5, rel=0.03)
    assert rule == measured_rule(*rows, np.arange(3000))
    found = batch_negatives(*rows, np.arange(3000), rule, batch_size=101)
    assert found["suspected_share"] == pytest.approx(rule.by_chance, rel=0.1)
    assert found["suspected_per_anchor"] == pytest.approx(100 * found["suspected_share"])


def test_equal_inputs_are_not_alike_where_all_are_equal():
    generator = np.random.default_rng(3)
    rows = np.tile(unit_rows(generator, 1, 50), (40, 1))
    rule = measured_rule(rows, unit_rows(generator, 40, 50), np.arange(40), deviations=9)
    found = batch_negatives(rows, unit_rows(generator, 40, 50), np.arange(40), rule, 40)
    assert found["suspected_share"] == 0


def test_pairs_of_one_track_are_no_negatives():
    video, music = directions([0, 5, 10, 180]), directions([0, 0, 120, 240])
    track, group = np.array([0, 0, 1, 2]), np.array([5, 5, 5, 6])
    found = batch_negatives(video, music, track, HAND_RULE, batch_size=4, group=group)
    # Ten ordered pairs of unlike tracks; videos 0 and 1 are alike with video 2.
    assert found["suspected_share"] == pytest.approx(4 / 10)
    assert found["truth"]["compatible_share"] == pytest.approx(4 / 10)
    assert found["truth"]["precision"] == found["truth"]["recall"] == 1.0
    assert found["suspected_per_anchor"] == pytest.approx(3 * 4 / 10)
    assert "compatible_at_most" not in found


@pytest.mark.parametrize("groups", [10, 40])
def test_the_share_of_compatible_pairs_is_estimated_from_those_of_one_track(groups):
    """Videos of a group lie close together; two of them share each track."""
    generator = np.random.default_rng(4)
    centre = unit_rows(generator, groups, 30)
    group = np.arange(800) % groups
    video = centre[group] + 0.02 * generator.normal(size=(800, 30))
    track = np.arange(800) // groups // 2 * groups + group
    unpaired = track[:, None] != track[None, :]
    true = np.mean((group[:, None] == group[None, :])[unpaired])
    # All compatible pairs are nearer than all others, so the estimate is exact but for noise.
    assert compatible_share(video, track) == pytest.approx(true, rel=0.2)
    assert compatible_share(video, np.arange(800)) is None


def test_a_rule_of_nothing_is_refused():
    rows = np.eye(3)
    with pytest.raises(UserError, match="deviations: expected a number above 0, found 0"):
        measured_rule(rows, rows, np.arange(3), deviations=0)
    with pytest.raises(UserError, match="expected pairs of at least two tracks"):
        measured_rule(rows, rows, np.zeros(3, int))
