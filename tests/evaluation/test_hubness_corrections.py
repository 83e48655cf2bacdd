"""Corrections of hubness against naive ones in float64, from the whole matrix of scores."""

import numpy as np
import pytest
from naive_ranking import all_ranks, grid, unit_rows

from vmr.errors import UserError
from vmr.evaluation import hubness_corrections as hubness
from vmr.evaluation import metrics, pair_ranks, sinkhorn, tiles
from vmr.evaluation.hubness_corrections import Bank, Correction
from vmr.evaluation.offset_ranks import offset_ranks

SETTINGS = {
    "csls": [{"k": 1}, {"k": 10}],
    "nnn": [{"k": 3, "alpha": 0.75}, {"k": 30, "alpha": 1.5}],
    "inverted_softmax": [{"beta": 5.0}, {"beta": 80.0}],
    "qb_norm": [{"beta": 5.0}, {"beta": 20.0}],
    "sinkhorn": [{"beta": 10.0}, {"beta": 100.0}],
}


def naive_offsets(method, setting, scores, targets):
    """Offsets (G,) by the bank's scores (B,G), and with all targets (B,G+C)."""
    largest = -np.sort(-scores, axis=0)
    if method == "csls":
        return -largest[: setting["k"]].mean(axis=0) / 2
    if method == "nnn":
        return -setting["alpha"] * largest[: setting["k"]].mean(axis=0)
    beta = setting["beta"]
    if method != "sinkhorn":
        return -np.log(np.exp(beta * scores).mean(axis=0)) / beta
    kernel = np.exp(beta * (targets - 1))
    queries, items = targets.shape
    of_items = np.full(items, 1 / items)
    for _ in range(10):
        of_queries = 1 / queries / (kernel @ of_items)
        of_items = 1 / items / (kernel.T @ of_queries)
    found = np.log(of_items[: scores.shape[1]]) / beta
    return found - found.mean()


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """A tile of 1024 by 1024 scores would be mostly padding, for each of a hundred settings."""
    monkeypatch.setattr(tiles, "TILE", 64)


@pytest.fixture(scope="module")
def space():
    """Bank of 70 videos and 50 tracks; 40 videos and 25 tracks with a hub among each."""
    generator = np.random.default_rng(0)
    bank = Bank(unit_rows(generator, 70), unit_rows(generator, 50))
    video, music = unit_rows(generator, 40), unit_rows(generator, 25)
    video[3], music[5] = bank.music_emb.mean(axis=0), bank.video_emb.mean(axis=0)
    for rows, hub in ((video, 3), (music, 5)):
        rows[hub] /= np.linalg.norm(rows[hub])
    return bank, video, music, generator.integers(20, size=40)


@pytest.mark.parametrize("direction", ["v2m", "m2v"])
def test_offsets_are_the_naive_ones(space, direction, monkeypatch):
    bank, video, music, _ = space
    gallery = music if direction == "v2m" else video
    queries, items = (
        each.astype(np.float64) for each in (bank.queries(direction), bank.items(direction))
    )
    scores = queries @ gallery.T.astype(np.float64)
    targets = np.concatenate([scores, queries @ items.T], axis=1)
    for tile in (1024, 16):  # the bank and the gallery within a tile, and over several
        monkeypatch.setattr(tiles, "TILE", tile)
        found = hubness.corrections(gallery, bank, direction, SETTINGS)
        assert found.keys() == SETTINGS.keys()
        for method, settings in SETTINGS.items():
            for setting, offsets in zip(settings, found[method].offsets, strict=True):
                expected = naive_offsets(method, setting, scores, targets)
                np.testing.assert_allclose(offsets, expected, atol=2e-5, err_msg=method)
        best = np.unique(scores.argmax(axis=1))
        np.testing.assert_array_equal(np.flatnonzero(found["qb_norm"].activated), best)


@pytest.mark.parametrize("tile", [1024, 8])
@pytest.mark.parametrize("direction", ["v2m", "m2v"])
def test_ranks_with_offsets_are_those_of_a_naive_ranking_with_ties(direction, tile, monkeypatch):
    monkeypatch.setattr(tiles, "TILE", tile)
    generator = np.random.default_rng(1)
    queries, gallery = grid(generator, 40), grid(generator, 25)
    labels = generator.integers(18, size=40), generator.integers(25, size=25)
    offsets = generator.integers(-3, 4, (3, 25)).astype(np.float32)
    found = offset_ranks(queries, gallery, *labels, offsets, direction, classes=10, not_unit="keep")
    relevant = labels[0][:, None] == labels[1]
    for ranks, offset in zip(found, offsets, strict=True):
        expected = all_ranks(queries @ gallery.T + offset, relevant)
        for name in ("query", "relevant", "gallery"):
            np.testing.assert_array_equal(getattr(ranks, name), getattr(expected, name))
        for name in ("above", "tied", "peers"):
            np.testing.assert_array_equal(getattr(ranks, name)[:, :1], getattr(expected, name))


def test_no_offset_gives_the_plain_ranks(space):
    _, video, music, index = space
    plain = pair_ranks(video, music, index, classes=10)
    tracks = np.arange(len(music))
    found = (
        offset_ranks(video, music, index, tracks, np.zeros((1, 25)), "v2m", classes=10)[0],
        offset_ranks(music, video, tracks, index, np.zeros((1, 40)), "m2v", classes=10)[0],
    )
    for one, other in zip(plain, found, strict=True):
        for name in ("query", "relevant", "gallery", "above", "tied", "peers"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_qb_norm_corrects_the_queries_alone_whose_best_item_is_activated():
    """Item 0 is activated: the query that finds it first is corrected, the other is not."""
    queries = np.eye(3, dtype=np.float32)[:2]
    gallery = np.array([[0.8, 0.0, 0.6], [0.0, 0.8, 0.6], [0.6, 0.6, 0.52915]], np.float32)
    offsets = np.array([[-1.0, -1.0, 0.0]], np.float32)
    correction = Correction(offsets, np.array([True, False, False]))
    labels = np.array([0, 1]), np.arange(3)
    found = hubness.corrected_ranks(
        queries, gallery, *labels, {"qb_norm": correction}, "v2m", classes=1
    )
    # Corrected, the own item of query 0 falls behind item 2; query 1 keeps its plain order.
    assert found["qb_norm"][0].above[:, 0].tolist() == [1, 0]


def test_the_order_of_the_bank_changes_nothing(space):
    bank, _, music, _ = space
    shuffled = Bank(bank.video_emb[::-1].copy(), bank.music_emb[::-1].copy())
    one, other = (hubness.corrections(music, each, "v2m", SETTINGS) for each in (bank, shuffled))
    for method, each in one.items():
        np.testing.assert_allclose(each.offsets, other[method].offsets, atol=1e-6)


def test_equal_items_have_equal_offsets(space):
    """And tie after the correction as before it."""
    bank, video, music, _ = space
    twice = np.concatenate([music, video, music])
    for correction in hubness.corrections(twice, bank, "v2m", SETTINGS).values():
        np.testing.assert_array_equal(
            correction.offsets[:, : len(music)], correction.offsets[:, -len(music) :]
        )


@pytest.mark.parametrize("method", ["csls", "nnn", "inverted_softmax", "sinkhorn"])
@pytest.mark.parametrize(("direction", "hub"), [("v2m", 5), ("m2v", 3)])
def test_a_hub_has_one_of_the_lowest_offsets(space, method, direction, hub):
    bank, video, music, _ = space
    gallery = music if direction == "v2m" else video
    settings = {method: [SETTINGS[method][0] | ({"k": 30} if "k" in SETTINGS[method][0] else {})]}
    found = hubness.corrections(gallery, bank, direction, settings)[method].offsets[0]
    assert np.sum(found < found[hub]) < 3


def planted(generator, videos, tracks, strength=0.6):
    """Pairs of which some tracks lie near all videos: a shared direction of several lengths."""
    music = generator.normal(size=(tracks, 16))
    index = generator.integers(tracks, size=videos)
    video = music[index] + 1.5 * generator.normal(size=(videos, 16))
    shared = np.ones(16)
    video += shared
    music += strength * generator.exponential(2, size=(tracks, 1)) * shared
    rows = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (video, music)]
    return (*(x.astype(np.float32) for x in rows), index)


def test_planted_hubs_cost_recall_and_corrections_give_it_back():
    generator = np.random.default_rng(0)
    train, validation, test = (planted(generator, n, n // 2) for n in (600, 200, 200))
    plain = metrics.summarise(metrics.table_values(pair_ranks(*test)[0]))
    found = hubness.evaluate_corrected(
        test, Bank(*train[:2]), validation, list(hubness.NAMES), bootstrap_samples=20
    )
    for method in ("csls", "nnn", "inverted_softmax", "sinkhorn"):
        assert found[method]["v2m"]["R@10"] > plain["R@10"] + 2, method
        assert found[method]["ci95"]["v2m"].keys() == found[method]["v2m"].keys()
        assert set(found[method]["settings"]) == {"v2m", "m2v"}


def test_settings_are_chosen_on_validation_alone():
    """Other labels of the test change its numbers and no choice."""
    generator = np.random.default_rng(1)
    train, validation, test = (planted(generator, n, n // 2) for n in (300, 150, 150))
    bank = Bank(*train[:2])
    other = (*test[:2], generator.permutation(test[2]))
    one, two = (
        hubness.evaluate_corrected(each, bank, validation, ["nnn", "csls"], bootstrap_samples=0)
        for each in (test, other)
    )
    for method in one:
        assert one[method]["settings"] == two[method]["settings"]
        assert one[method]["v2m"] != two[method]["v2m"]
    swapped = hubness.choose(other, bank, ["nnn"], "v2m")
    assert swapped["nnn"] != one["nnn"]["settings"]["v2m"]


def test_a_choice_is_the_best_of_its_grid(space, monkeypatch):
    bank, video, music, index = space
    chosen = hubness.choose((video, music, index), bank, ["nnn"], "v2m")["nnn"]
    scores = video @ music.T
    best = None
    for setting in hubness.GRIDS["nnn"]:
        if setting["k"] > 70:
            continue
        offset = naive_offsets("nnn", setting, bank.video_emb @ music.T, None)
        ranks = all_ranks(scores + offset, index[:, None] == np.arange(25))
        found = metrics.summarise(metrics.table_values(ranks))
        key = found["R@10"], found["MRR"]
        if best is None or key > best[0]:
            best = key, setting
    assert chosen == best[1]


def test_a_bank_smaller_than_any_k_counts_whole_and_says_so(space):
    bank, video, music, index = space
    small = Bank(bank.video_emb[:3], bank.music_emb[:3])
    assert hubness.choose((video, music, index), small, ["csls"], "v2m") == {"csls": {"k": 3}}


def test_a_sample_of_a_large_bank_serves_sinkhorn(space, monkeypatch):
    bank, _, music, _ = space
    whole = hubness.corrections(music, bank, "v2m", {"sinkhorn": [{"beta": 20.0}]})
    monkeypatch.setattr(sinkhorn, "ITEMS", 30)
    sample = hubness.corrections(music, bank, "v2m", {"sinkhorn": [{"beta": 20.0}]})
    assert np.ptp(whole["sinkhorn"].offsets - sample["sinkhorn"].offsets) > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sofmax": [{"beta": 1.0}]}, "unknown correction 'sofmax'; expected some of csls"),
        ({"csls": [{"k": 0}]}, "csls: k is 0, expected at least 1"),
        ({"nnn": [{"k": 2, "alpha": -1.0}]}, "nnn: alpha is -1, expected at least 0"),
        ({"qb_norm": [{"beta": 0.0}]}, "qb_norm: beta is 0, expected above 0"),
        ({"sinkhorn": [{"beta": np.inf}]}, "sinkhorn: beta is inf, expected above 0"),
    ],
)
def test_settings_out_of_range_are_refused(space, settings, message):
    bank, _, music, _ = space
    with pytest.raises(UserError, match=message):
        hubness.corrections(music, bank, "v2m", settings)


def test_a_bank_of_another_space_is_refused(space):
    bank, video, music, index = space
    narrow = Bank(
        bank.video_emb[:, :8] / np.linalg.norm(bank.video_emb[:, :8], axis=1)[:, None],
        bank.music_emb,
    )
    with pytest.raises(UserError, match="bank queries has width 8 and gallery 16"):
        hubness.corrections(music, narrow, "v2m", {"csls": [{"k": 2}]})
    with pytest.raises(UserError, match="bank queries: row 0 has length 2; expected 1"):
        hubness.corrections(
            music, Bank(2 * bank.video_emb, bank.music_emb), "v2m", {"csls": [{"k": 2}]}
        )
    with pytest.raises(UserError, match="offsets: expected finite numbers"):
        offset_ranks(video, music, index, np.arange(25), np.full((1, 25), np.nan), "v2m")
