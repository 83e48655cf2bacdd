import numpy as np
import pytest
from naive_ranking import unit_rows

from vmr.evaluation import pair_ranks, tiles
from vmr.evaluation.diagnosis.false_negatives import Items, false_negatives, pair_deviations
from vmr.evaluation.diagnosis.queue import label_queue
from vmr.evaluation.diagnosis.similarity import measured_rule


@pytest.fixture(scope="module")
def items() -> Items:
    """80 videos of 40 of 50 tracks, whose inputs say something of what is alike."""
    generator = np.random.default_rng(0)
    index = generator.integers(40, size=80)
    music = unit_rows(generator, 50, 6)
    return Items(
        video_emb=unit_rows(generator, 80, 6) * 0.8 + music[index],
        music_emb=music,
        video_inputs=unit_rows(generator, 80, 5),
        music_inputs=unit_rows(generator, 50, 5),
        gt_music_index=index,
    )


@pytest.fixture(scope="module")
def unit_items(items: Items) -> Items:
    lengths = np.linalg.norm(items.video_emb, axis=1, keepdims=True)
    return Items(**(vars(items) | {"video_emb": items.video_emb / lengths}))


def rule_of(items, deviations=1.0):
    index = items.gt_music_index
    inputs = items.video_inputs, items.music_inputs[index]
    return measured_rule(*inputs, index, deviations=deviations)


def naive_suspects(items, rule):
    """{(video, track): (gain, direction)} of the direction of the larger gain."""
    scores = items.video_emb @ items.music_emb.T
    index = items.gt_music_index
    video, track = np.indices(scores.shape).reshape(2, -1)
    alike = np.maximum(*pair_deviations(items, rule, video, track)).reshape(scores.shape)
    found = {}
    for direction in ("v2m", "m2v"):
        table = scores if direction == "v2m" else scores.T
        relevant = index[:, None] == np.arange(scores.shape[1])
        relevant = relevant if direction == "v2m" else relevant.T
        for query in np.flatnonzero(relevant.any(axis=1)):
            best = table[query][relevant[query]].max()
            last = 1 + np.sum(table[query] > best)
            for item in np.flatnonzero(table[query] > best + 1e-6):
                pair = (query, item) if direction == "v2m" else (item, query)
                gain = 1 / (1 + np.sum(table[query] > table[query, item])) - 1 / last
                if alike[pair] > rule.deviations and gain > found.get(pair, (0, ""))[0]:
                    found[pair] = (gain, direction)
    return found


@pytest.mark.parametrize("tile", [1024, 16])
def test_the_queue_is_what_a_naive_search_finds(unit_items, tile, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", tile)
    rule = rule_of(unit_items)
    expected = naive_suspects(unit_items, rule)
    queue = label_queue(unit_items, rule)
    pairs = list(zip(queue.video.tolist(), queue.track.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected.keys()
    gains = 1 / queue.rank - 1 / queue.partner_rank
    assert np.all(np.diff(gains) <= 0)
    for pair, gain, direction in zip(pairs, gains, queue.direction, strict=True):
        assert gain == pytest.approx(expected[pair][0])
        if gains.tolist().count(gain) == 1:
            assert direction == expected[pair][1]
    assert set(queue.direction) == {"v2m", "m2v"}


def test_every_column_is_of_its_pair(unit_items):
    queue = label_queue(unit_items, rule_of(unit_items))
    scores = unit_items.video_emb @ unit_items.music_emb.T
    index = unit_items.gt_music_index
    both = pair_ranks(unit_items.video_emb, unit_items.music_emb, index)
    ranks = dict(zip(("v2m", "m2v"), both, strict=True))
    for row in range(len(queue.video)):
        direction, video, track, partner, *numbers = (values[row] for values in queue)
        assert index[video] != track
        asks, of = (video, (video, partner)) if direction == "v2m" else (track, (partner, track))
        assert index[of[0]] == of[1]
        place = np.searchsorted(ranks[direction].query, asks)
        listed = scores[video] if direction == "v2m" else scores[:, track]
        score, partner_score, rank, partner_rank = numbers[:4]
        assert (score, partner_score) == pytest.approx((scores[video, track], scores[of]), rel=1e-5)
        assert rank == 1 + np.sum(listed > scores[video, track])
        assert partner_rank == 1 + ranks[direction].above[place, 0]
        assert max(numbers[4:]) > 1.0


def test_in_full_the_queue_holds_the_suspects_of_the_diagnosis(unit_items):
    rule = rule_of(unit_items, 2.0)
    found = false_negatives(unit_items, rule, examples=1000)
    queue = label_queue(unit_items, rule, depth=80)
    pairs = set(zip(queue.video.tolist(), queue.track.tolist(), strict=True))
    assert {(one["video"], one["track"]) for one in found["examples"]} <= pairs
    assert len(pairs) <= found["v2m"]["suspected"] + found["m2v"]["suspected"]


def test_only_the_head_of_each_list_is_looked_at(unit_items):
    rule = rule_of(unit_items)
    assert label_queue(unit_items, rule, depth=3).rank.max() <= 3
    assert len(label_queue(unit_items, rule_of(unit_items, 50.0)).video) == 0
