"""Queries and answers: items by file and by id, both directions, exclusions, CSLS, three forms."""

import csv
import io
import json
import pathlib
import unicodedata
from collections.abc import Mapping
from typing import Any

import naive_search as naive
import numpy as np
import pytest

from vmr import embeddings
from vmr.collection import Collection, open_collection, write_npz
from vmr.errors import UserError
from vmr.evaluation import hubness_corrections, tiles
from vmr.retrieval import corrected
from vmr.retrieval import query as queries
from vmr.retrieval.answers import FORMATS, Answer, answer, give
from vmr.retrieval.query import Query, excluded_ids, one_item, open_queries, open_searched

VIDEO, MUSIC = naive.made_rows(0, 20), naive.made_rows(1, 60)
IDS = {
    "video": np.array([f"v{n:02d}" for n in range(20)]),
    "music": np.array(["e\u0301tude", *(f"track_{n:02d}" for n in range(1, 60))]),
}
ROWS = {"video": VIDEO, "music": MUSIC}
SCORES = naive.scores(VIDEO, MUSIC)
MODEL = "a" * 64


class StandIn:
    """A model whose embedding of an item of all ones is row 3 of its modality."""

    folder, fingerprint, widths = pathlib.Path("runs/mine"), MODEL, {"video": 8, "music": 6}
    extractors: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.given: list[Any] = []

    def embed_video(self, features: Any, text: Any = None) -> np.ndarray:
        self.given.append((np.shape(features), text))
        if np.asarray(features).dtype.kind not in "fiu":
            raise UserError("item 0: features of no numbers")
        if np.isnan(features[0]).any():
            raise UserError("item 0: holds NaN")
        return VIDEO[3:4]

    def embed_music(self, features: Any) -> np.ndarray:
        self.given.append(np.shape(features))
        return MUSIC[3:4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("answers")
    for side, rows in ROWS.items():
        write_npz(folder / f"{side}.npz", side, [rows], IDS[side], {"model": MODEL})
        np.save(folder / f"{side}.npy", np.ones(StandIn.widths[side], np.float32))
    write_npz(folder / "other.npz", "video", [VIDEO], IDS["video"], {"model": "b" * 64})
    write_npz(folder / "odd.npz", "video", [VIDEO], IDS["video"], {"model": ["mine"]})
    write_npz(folder / "unknown.npz", "music", [MUSIC], IDS["music"], {})
    write_npz(folder / "narrow.npz", "video", [naive.made_rows(0, 3, 5)], list("abc"), {})
    np.savez(folder / "empty.npz", music_emb=MUSIC[:0], music_ids=IDS["music"][:0])
    np.savez(
        folder / "astray.npz", video_emb=VIDEO, video_ids=IDS["video"], music_emb=MUSIC,
        music_ids=IDS["music"], gt_music_index=np.full(20, 60),
    )  # fmt: skip
    embeddings.save(
        *(folder / "both.npz", VIDEO, MUSIC, np.arange(20)),
        video_ids=IDS["video"].tolist(), music_ids=IDS["music"].tolist(), meta={"model": MODEL},
    )  # fmt: skip
    return folder


def asked(
    folder: pathlib.Path,
    embedded: str = "music.npz",
    *,
    queries_of: str | None = None,
    side: str | None = None,
    model: Any = None,
    text: str | None = None,
    **item: str,
) -> tuple[Query, Collection | Any, Collection | None]:
    """What a command would ask: asked(folder, "both.npz", video="v03")."""
    of, name = one_item(item.get("video"), item.get("music"))
    searched = open_searched(None, str(folder / embedded), of, side)
    found = open_queries(str(folder / queries_of) if queries_of else None, searched, of)
    return queries.read_query(name, of, searched, found, model, text), searched, found


def ids(found: Answer) -> list[str]:
    return [hit["id"] for hit in found.hits]


def test_both_directions_from_a_file_of_both_modalities(folder: pathlib.Path) -> None:
    for side, scores in (("video", SCORES), ("music", SCORES.T)):
        other = queries.other_side(side)
        query, searched, _ = asked(folder, "both.npz", **{side: str(IDS[side][3])})
        found = answer(query, searched, 5)
        rows = naive.best(scores[3:4], 5)[0]
        assert ids(found) == IDS[other][rows].tolist()
        np.testing.assert_allclose([h["score"] for h in found.hits], scores[3][rows], atol=1e-6)
        assert [hit["rank"] for hit in found.hits] == [1, 2, 3, 4, 5]
        assert found.searched["side"] == other


def test_the_true_partner_is_marked_where_partners_are_known(folder: pathlib.Path) -> None:
    for side, partner in (("video", "track_03"), ("music", "v03")):
        query, searched, _ = asked(folder, "both.npz", **{side: str(IDS[side][3])})
        found = answer(query, searched, 60)
        assert [hit["id"] for hit in found.hits if hit["true"]] == [partner]
        few = answer(query, searched, 1, exclude=[partner])
        assert few.notes == [f"no true partner is among these: {partner}"]
    query, searched, _ = asked(folder, queries_of="video.npz", video="v03")
    assert "true" not in answer(query, searched, 1).hits[0]


def test_more_like_this_leaves_the_item_itself_out(folder: pathlib.Path) -> None:
    like = naive.scores(MUSIC, MUSIC)
    np.fill_diagonal(like, -1)
    expected = IDS["music"][naive.best(like[3:4], 4)[0]].tolist()
    for embedded, side, of in (
        ("music.npz", None, None),
        ("both.npz", "music", None),
        ("music.npz", None, "both.npz"),
    ):
        query, searched, _ = asked(folder, embedded, side=side, queries_of=of, music="track_03")
        assert ids(answer(query, searched, 4)) == expected


def test_a_file_is_embedded_by_the_model(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    np.save(tmp_path / "sequence.npy", np.ones((5, 8)))
    np.save(tmp_path / "text.npy", np.ones(4))
    model, file = StandIn(), str(folder / "video.npy")
    expected = IDS["music"][naive.best(SCORES[3:4], 5)[0]].tolist()
    for item, text in (
        *((file, None), (file, "a blue song"), (file, str(tmp_path / "text.npy"))),
        (str(tmp_path / "sequence.npy"), None),
    ):
        query, searched, _ = asked(folder, model=model, video=item, text=text)
        assert ids(answer(query, searched, 5)) == expected
    assert model.given[0] == ((1, 8), None)
    assert model.given[1] == ((1, 8), ["a blue song"])
    np.testing.assert_array_equal(model.given[2][1][0], np.ones((1, 4)))
    assert model.given[3] == ((1, 5, 8), None)
    query, searched, _ = asked(folder, "both.npz", model=model, music=str(folder / "music.npy"))
    assert ids(answer(query, searched, 1)) == [IDS["video"][SCORES[:, 3].argmax()]]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_id_is_found_in_either_unicode_form(folder: pathlib.Path, form: str) -> None:
    name = unicodedata.normalize(form, "étude")  # type: ignore[arg-type]
    query, searched, _ = asked(folder, music=name)
    assert query.own_row == 0
    assert excluded_ids(name, searched) == ["e\u0301tude"]


def test_ids_are_excluded_by_list_and_by_file(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    query, searched, _ = asked(folder, queries_of="video.npz", video="v03")
    first = ids(answer(query, searched, 6))
    assert (
        ids(answer(query, searched, 3, exclude=excluded_ids(",".join(first[:3]), searched)))
        == (first[3:])
    )
    (tmp_path / "used.txt").write_text(f"\ufeff{first[0]}\n\n {first[2]} \nelsewhere\n", "utf-8")
    found = answer(query, searched, 2, exclude=excluded_ids(str(tmp_path / "used.txt"), searched))
    assert ids(found) == [first[1], first[3]]
    assert found.notes == [f"1 of the ids to exclude are not in {searched.path}"]
    long = ",".join(IDS["music"].tolist() * 9)  # longer than the name of a file may be
    assert len(answer(query, searched, 2, exclude=excluded_ids(long, searched)).hits) == 0


def test_fewer_hits_than_asked_are_explained(folder: pathlib.Path) -> None:
    query, searched, _ = asked(folder, queries_of="video.npz", video="v03")
    assert answer(query, searched, 99).notes == ["60 hits instead of 99: 60 items there"]
    least = float(np.sort(SCORES[3])[-4])
    found = answer(query, searched, 9, min_score=least, exclude=["track_01"])
    assert found.notes[0].startswith(f"{len(found.hits)} hits instead of 9: 59 of 60 items not ex")
    assert found.notes[0].endswith(f", and the others score below {least:g}")
    none = answer(query, searched, 9, min_score=2.0)
    assert FORMATS["table"](none) == "rank  score  id"
    with pytest.raises(UserError, match="--min_score is no number"):
        answer(query, searched, 9, min_score=float("nan"))


def test_csls_stands_beside_the_score_and_names_its_bank(folder: pathlib.Path) -> None:
    query, searched, bank = asked(folder, queries_of="video.npz", video="v03")
    found = answer(query, searched, 8, hubness="csls", bank=bank)
    expected = naive.csls(VIDEO[3:4], MUSIC, VIDEO)
    rows = naive.best(expected, 8)[0]
    assert ids(found) == IDS["music"][rows].tolist()
    np.testing.assert_allclose([h["csls"] for h in found.hits], expected[0, rows], atol=2e-6)
    np.testing.assert_allclose([h["score"] for h in found.hits], SCORES[3, rows], atol=1e-6)
    assert f"a bank of 20 video rows of {folder / 'video.npz'}" in found.notes[0]


@pytest.mark.parametrize("method", sorted(corrected.DEFAULTS))
def test_other_corrections_rank_by_score_plus_offset(
    folder: pathlib.Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "TILE", 64)
    query, searched, bank = asked(folder, queries_of="both.npz", video="v03")
    assert bank is not None
    found = answer(query, searched, 8, hubness=method, bank=bank)
    setting = corrected.DEFAULTS[method]
    both = hubness_corrections.Bank(np.concatenate(bank.parts), np.concatenate(searched.parts))
    correction = hubness_corrections.corrections(both.music_emb, both, "v2m", {method: [setting]})
    offsets = correction[method].offsets[0]
    scores = naive.scores(query.embedding, both.music_emb)
    if method == "qb_norm":
        activated = correction[method].activated
        assert activated is not None
        assert activated[scores[0].argmax()] == ("plain" not in found.notes[0])
        offsets = offsets * activated[scores[0].argmax()]
    keys = scores + offsets
    rows = naive.best(keys, 8)[0]
    assert ids(found) == searched.ids[rows].tolist()
    np.testing.assert_allclose([h[method] for h in found.hits], keys[0, rows], atol=2e-6)
    np.testing.assert_allclose([h["score"] for h in found.hits], scores[0, rows], atol=1e-6)
    assert f"by a bank of {len(bank)} video rows of {folder / 'both.npz'}" in found.notes[0]
    if method == "nnn":  # the default of 128 is more than the bank has
        assert found.notes[0].startswith(f"NNN, k = {len(bank)}, α = 0.75: ")
    assert FORMATS["table"](found).split()[:4] == ["rank", "score", method, "id"]


def test_dual_bank_sinkhorn_needs_both_banks(folder: pathlib.Path) -> None:
    query, searched, bank = asked(folder, queries_of="video.npz", video="v03")
    with pytest.raises(UserError, match=r"needs a bank of music too, and .*video.npz holds video"):
        answer(query, searched, 3, hubness="sinkhorn", bank=bank)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("none", {"k": 3}, "--hubness_k is not of --hubness=none, which has none of these flags"),
        ("csls", {"beta": 3.0}, "--hubness_beta is not of --hubness=csls, which has none of these"),
        ("nnn", {"beta": 3.0}, "not of --hubness=nnn, which has --hubness_k, --hubness_alpha"),
        ("nnn", {"k": 0}, "nnn: k is 0, expected at least 1"),
        ("qb_norm", {"beta": float("nan")}, "qb_norm: beta is nan, expected above 0"),
    ],
)
def test_settings_that_a_correction_has_not_are_refused(
    method: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        corrected.setting_of(method, **given)
    assert corrected.setting_of("nnn", k=3) == {"k": 3, "alpha": 0.75}


def test_csls_needs_a_bank_of_the_other_modality(folder: pathlib.Path) -> None:
    query, searched, bank = asked(folder, model=StandIn(), video=str(folder / "video.npy"))
    with pytest.raises(UserError, match="needs embedded queries of the other modality: give --que"):
        answer(query, searched, 3, hubness="csls", bank=bank)
    query, searched, bank = asked(folder, queries_of="both.npz", music="track_01")
    with pytest.raises(UserError, match=r"both.npz holds music, as what is searched does"):
        answer(query, searched, 3, hubness="csls", bank=bank)


def test_an_index_answers_as_embeddings_do(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("faiss")
    from vmr.retrieval.index import build_index

    catalogue = open_collection(folder / "music.npz")
    build_index(catalogue, "ivf", tmp_path / "index", open_collection(folder / "video.npz"))
    searched = open_searched(str(tmp_path / "index"), None, "video")
    bank = open_collection(folder / "video.npz")
    query = queries.read_query("v03", "video", searched, bank, None)
    found = answer(query, searched, 5)
    assert ids(found) == IDS["music"][naive.best(SCORES[3:4], 5)[0]].tolist()
    assert found.searched["kind"] == "ivf"
    with pytest.raises(UserError, match="give --embeddings instead of --index"):
        answer(query, searched, 5, hubness="csls", bank=bank)
    like = queries.read_query("track_03", "music", searched, None, None)
    scores = naive.scores(MUSIC, MUSIC)[3:4]
    assert ids(answer(like, searched, 5)) == IDS["music"][naive.best(scores, 6)[0][1:]].tolist()
    with pytest.raises(UserError, match="is an index of music, expected video"):
        open_searched(str(tmp_path / "index"), None, "video", "video")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give --video=ITEM to search music, or --music=ITEM"),
        ({"video": "v01", "music": "track_01"}, "give --video=ITEM to search music, or --music"),
        ({"video": ""}, "give --video=ITEM to search music"),
        (
            {"video": "v01"},
            "'v01' is no npy or media file that is there, and there are no .* video items .* --que",
        ),
        (
            {"video": "v1", "queries_of": "video.npz"},
            r"'v1' is no file and no id of the video items in .*video.npz; nearest: 'v19', 'v18'",
        ),
        ({"video": "?", "queries_of": "video.npz"}, r"video.npz, such as 'v00'"),
        (
            {"video": "track_07", "queries_of": "video.npz"},
            "it is one of music: give --music=track_07",
        ),
        ({"video": "a", "queries_of": "narrow.npz"}, "narrow.npz has width 5, and .*music.npz 24"),
        ({"video": "v01", "queries_of": "other.npz"}, "other.npz was embedded by model bbbbbbbbbb"),
        ({"video": "v01", "queries_of": "odd.npz"}, r"odd.npz was embedded by model \['mine'\]"),
        ({"video": "v01", "queries_of": "music.npz"}, "music.npz holds music_emb, expected video"),
        ({"video": "absent.npy", "queries_of": "video.npz"}, "'absent.npy' is no file and no id"),
        ({"video": "v01", "text": "words", "queries_of": "video.npz"}, "--text comes with a file"),
        ({"video": "FOLDER/video.npy"}, "video.npy is to be embedded: give --model=DIR"),
        (
            {"video": "FOLDER/music.npy", "model": StandIn()},
            "music.npy has width 6, which runs/mine expects of music; of video it expects 8",
        ),
        (
            {"music": "FOLDER/music.npy", "model": StandIn(), "text": "a"},
            "comes with --video alone",
        ),
        (
            {
                "video": "FOLDER/video.npy",
                "model": StandIn(),
                "embedded": "other.npz",
                "side": None,
            },
            "other.npz was embedded by model bbbbbbbbbbbb, and runs/mine is aaaaaaaaaaaa",
        ),
        ({"embedded": "absent.npz", "video": "v01"}, "absent.npz does not exist"),
        ({"embedded": "empty.npz", "video": "v01"}, r"empty.npz: music_emb has shape \(0, 24\)"),
        (
            {"embedded": "astray.npz", "video": "v01"},
            "astray.npz: gt_music_index: video 0 points at",
        ),
        ({"embedded": "astray.npz", "music": "track_01"}, "astray.npz: gt_music_index: video 0 po"),
        ({"embedded": "both.npz", "video": "v99"}, "no id of the video items in .*both.npz; nea"),
        ({"embedded": "music.npz", "video": "v01", "side": "video"}, "expected video_emb"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: pathlib.Path, given: dict[str, Any], message: str
) -> None:
    places = {
        name: value.replace("FOLDER", str(folder)) if isinstance(value, str) else value
        for name, value in given.items()
    }
    with pytest.raises(UserError, match=message):
        asked(folder, **places)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.float32(1), r"x.npy has shape \(\) and type float32, expected numbers of shape \(P,\)"),
        (np.ones((1, 2, 8)), r"x.npy has shape \(1, 2, 8\)"),
        (np.ones((0, 8)), r"x.npy has shape \(0, 8\)"),
        (np.array(["a"]), "x.npy has shape .* and type <U1"),
        (np.full(8, np.nan), r"x.npy: item 0: holds NaN"),
        (np.array([None]), "x.npy: cannot be read as npy: Object arrays"),
        (b"", "x.npy: is no npy file"),
        (b"\x93NUMPY\x01\x00", "x.npy: cannot be read as npy"),
    ],
)
def test_files_that_are_no_item(
    folder: pathlib.Path, tmp_path: pathlib.Path, array: Any, message: str
) -> None:
    file = tmp_path / "x.npy"
    if isinstance(array, bytes):
        file.write_bytes(array)
    else:
        np.save(file, array)
    with pytest.raises(UserError, match=message):
        asked(folder, model=StandIn(), video=str(file))


def test_a_partner_is_true_in_whichever_unicode_form() -> None:
    searched = Collection(
        pathlib.Path("music"), "music", (MUSIC[:2],), np.array(["cafe\u0301", "b"])
    )
    query = Query("v", "video", VIDEO[:1], partners=("caf\u00e9",))
    found = {hit["id"]: hit["true"] for hit in answer(query, searched, 2).hits}
    assert found == {"cafe\u0301": True, "b": False}


def test_a_file_of_whole_numbers_is_an_item(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    file, found = tmp_path / "x.npy", []
    for kind in (np.int64, np.float32):
        np.save(file, np.arange(1, 9, dtype=kind))
        found.append(asked(folder, model=StandIn(), video=str(file)))
    np.testing.assert_array_equal(*(query.embedding for query, *_ in found))


def test_one_place_to_search_is_given(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for places in ((None, None), ("a", "b"), ("", "")):
        with pytest.raises(UserError, match="give --index=DIR or --embeddings=FILE"):
            open_searched(*places, "video")
    with pytest.raises(UserError, match="holds no finished index"):
        open_searched(str(tmp_path), None, "video")
    searched = open_searched(None, str(folder / "music.npz"), "video")
    with pytest.raises(UserError, match=r"--exclude: 'track_6' is no file and no id of .*nearest"):
        excluded_ids("track_01,track_6", searched)
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(UserError, match="latin cannot be read as UTF-8 text"):
        excluded_ids(str(tmp_path / "latin"), searched)


def test_the_nearest_spelling_among_very_many_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_NEAR", 5)
    names = np.array([f"track_{n}" for n in np.random.default_rng(0).permutation(1000)])
    row = queries._nearest("track_77x", names)
    assert "track_77" in row


def test_what_another_model_embedded_is_unknown_to_be_so(folder: pathlib.Path) -> None:
    query, searched, _ = asked(folder, "unknown.npz", queries_of="video.npz", video="v03")
    assert answer(query, searched, 1).notes == [
        "nothing says that query and items were embedded by one model"
    ]


def made_answer() -> Answer:
    """Hits whose ids and columns are as hostile as a file can make them."""
    columns = {
        "path": np.array(["a,b.wav", "", None], object),
        "seconds": np.array([1.5, np.nan, 200.0]),
        "score": np.array([9, 9, 9]),
    }
    names = np.array(["<b>x</b>\x1b[2J\n", '"quoted"', "日本"])
    searched = Collection(pathlib.Path("made"), "music", (MUSIC[:3],), names, columns, {})
    return answer(Query("v", "video", MUSIC[:1]), searched, 3)


def test_a_table_is_aligned_and_commands_no_terminal() -> None:
    lines = FORMATS["table"](made_answer()).splitlines()
    assert len(lines) == 4
    assert lines[0].split() == ["rank", "score", "id", "path", "seconds"]
    assert r"<b>x</b>\x1b[2J\n" in lines[1]
    assert lines[1].split()[:2] == ["1", "1.0000"]
    assert all(character.isprintable() for line in lines for character in line)


def test_json_and_csv_give_ids_as_they_are() -> None:
    found = made_answer()
    parsed = json.loads(FORMATS["json"](found))
    assert parsed["hits"][0] | {"score": 1.0} == {
        "rank": 1, "score": 1.0, "id": "<b>x</b>\x1b[2J\n", "path": "a,b.wav", "seconds": 1.5
    }  # fmt: skip
    assert parsed["query"] == {"item": "v", "side": "video"}
    assert {hit["seconds"] for hit in parsed["hits"]} == {1.5, None, 200.0}
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](found), newline="")))
    assert [row["id"] for row in rows] == [hit["id"] for hit in parsed["hits"]]
    assert rows[0]["path"] == "a,b.wav"


def test_hits_are_written_whole_and_notes_stand_apart(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = made_answer()
    give(found, "csv", str(tmp_path / "hits.csv"))
    printed = capsys.readouterr()
    assert printed.out == f"written to {tmp_path / 'hits.csv'}\n"
    assert printed.err.splitlines() == list(found.notes)
    assert (tmp_path / "hits.csv").read_text() == FORMATS["csv"](found) + "\n"
    for none in ("", "."):
        with pytest.raises(UserError, match="is no file, expected the name of one"):
            give(found, "csv", none)
    give(found, "json", None)
    assert json.loads(capsys.readouterr().out)["hits"]


def test_no_model_is_loaded_where_none_is_named() -> None:
    assert queries.load_model(None) is None
