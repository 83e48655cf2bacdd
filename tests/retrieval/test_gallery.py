"""The page of a run: what it says, what it keeps out, and how it behaves in a real browser."""

import base64
import hashlib
import html
import html.parser
import json
import pathlib
import re
import shutil
import time
import types
import urllib.parse
import wave
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from front_doors import run, succeed
from PIL import Image

from configs import vmnet
from vmr import embeddings
from vmr.data.annotations import Annotations, annotations
from vmr.data.building.write import write_dataset
from vmr.data.dataset import Dataset, open_dataset
from vmr.data.modality import Modality
from vmr.data.schema import Pair, Schema, Text
from vmr.data.sources.planted import MUSIC_WIDTH, VIDEO_WIDTH, planted
from vmr.data.sources.source import Source
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import metrics, pair_ranks
from vmr.evaluation.diagnosis.false_negatives import Items, false_negatives
from vmr.evaluation.diagnosis.similarity import measured_rule
from vmr.retrieval.gallery import write_gallery
from vmr.retrieval.gallery_page import Cards, clock, plotted, render
from vmr.retrieval.media_files import MediaFolders, address, thumbnails
from vmr.retrieval.outcomes import chosen_queries, outcomes
from vmr.runs.evaluate import evaluate_run
from vmr.runs.parts import Parts, embed_parts
from vmr.runs.restore import restore_run
from vmr.training import loop

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "\"'><img src=x onerror=window.hacked=1>",
    "../../secret",
    "50%20&amp;é#?",
    "日本/音楽",
    "--><!--\\..\\",
    "{{ 7 * 7 }}",
)
TITLE = "</bdi></script><script>window.hacked = 1</script> of"


def hostile(pair: Pair) -> Pair:
    """A pair with an id, a title and labels that a page must not fall for."""
    number = int(pair.video_id[-6:])
    name = HOSTILE[number % len(HOSTILE)]
    return replace(
        pair,
        video_id=f"{name} v{number}",
        music_id=f"{name} m{pair.music_id[-6:]}",
        text=f"{TITLE}\n {pair.text}",
        labels=(number % 3, 10 + number % 5),
    )


def built(folder: pathlib.Path, seed: int, clips: int = 0) -> str:
    source = planted(videos=120, tracks=90, clips=clips, text=True, seed=seed)
    modalities = [Modality(width, sequence=bool(clips)) for width in (VIDEO_WIDTH, MUSIC_WIDTH)]
    schema = Schema(*modalities, text=Text(), has_labels=True, has_groups=True)
    splits = {
        name: lambda pairs=pairs: map(hostile, pairs()) for name, pairs in source.splits.items()
    }
    write_dataset(Source("hostile", "by a test", "none", schema, splits), folder, "a test")
    return str(folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("hostile") / "data", seed=0)


@pytest.fixture(scope="module")
def workdir(data_dir: str, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    config = vmnet.get_config("runlocal")
    config.dataset.data_dir = data_dir
    loop.train(config, folder, jax.devices()[:1])
    return folder


@pytest.fixture(scope="module")
def other(workdir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same run at another step: its second-best checkpoint."""
    folder = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(workdir, folder)
    shutil.rmtree(folder / "checkpoints" / str(restore_run(workdir).step))
    return folder


@pytest.fixture(scope="module")
def embedded(workdir: pathlib.Path) -> Embeddings:
    return embeddings.collect(restore_run(workdir).embed("test"), "test", {})


@pytest.fixture(scope="module")
def media(embedded: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Sounds of every track that a file can be named by, a thumbnail and a film of each video."""
    folder = tmp_path_factory.mktemp("page") / "media %41"
    for side, ids in (("video", embedded.video_ids), ("music", embedded.music_ids)):
        for n, item in enumerate(ids):
            if ".." in item:
                continue
            path = folder / side / f"{item}."
            path.parent.mkdir(parents=True, exist_ok=True)
            if side == "music":
                silence(path.with_name(f"{path.name}wav"))
            else:
                image = Image.new("RGB", (64, 36), (5 * n % 256, 90, 120))
                image.save(path.with_name(f"{path.name}jpg"))
                path.with_name(f"{path.name}{'AVI' if n % 2 else 'webm'}").write_bytes(b"film")
    silence(folder.parent / "secret v2.wav")
    return folder


def silence(path: pathlib.Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 80_000)


@pytest.fixture(scope="module")
def page(
    workdir: pathlib.Path, other: pathlib.Path, media: pathlib.Path
) -> tuple[pathlib.Path, list[str]]:
    """The page with everything on it, and what is said of it."""
    folder = media.parent / "gallery"
    lines = write_gallery(folder, workdir, "test", against=other, media=MediaFolders(media), top=3)
    return folder / "index.html", lines


class Parsed(html.parser.HTMLParser):
    """Elements of a page: tags with their attributes, and the text directly inside each tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self._open: list[str] = [""]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        self.inside.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() != tag:  # elements that need no end
            pass

    def handle_data(self, data: str) -> None:
        if self._open[-1]:
            self.inside[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_ranks_are_those_of_evaluate_and_the_true_one_stands_at_its_rank(
    page: tuple[pathlib.Path, list[str]],
    workdir: pathlib.Path,
    other: pathlib.Path,
    embedded: Embeddings,
) -> None:
    text = page[0].read_text()
    parsed = Parsed(text)
    there = embeddings.collect(restore_run(other).embed("test"), "test", {})
    found = evaluate_run(workdir, "test")
    for way, here, before in zip(metrics.DIRECTIONS, ranks(embedded), ranks(there), strict=True):
        shown = [row for row in parsed.all("article") if row["data-way"] == way]
        worst = np.argsort(-here, kind="stable")
        assert [float(row["data-rank"]) for row in shown] == here[worst].tolist()
        assert [float(row["data-change"]) for row in shown] == (before - here)[worst].tolist()
        assert [row["data-hit"] == "1" for row in shown] == (here[worst] <= 3).tolist()
        assert np.median(here) == found[way]["MedR"]
        assert f"<td>{found[way]['R@10']:.1f}</td>" in text
    articles = re.findall(r"<article.*?</article>", text, re.DOTALL)
    for article in articles:
        rank = float(re.search(r'data-rank="(.*?)"', article)[1])  # type: ignore[index]
        places = re.findall(r'<li class="true">\n<p class="score"><b>(\d+)</b>', article)
        if "tied with" not in article:
            assert places[:1] == ([str(int(rank))] if rank <= 3 else [])
            assert ("missed" in article) == (rank > 3)


def ranks(embedded: Embeddings) -> list[np.ndarray]:
    both = pair_ranks(embedded.video_emb, embedded.music_emb, embedded.gt_music_index)
    return [metrics.table_values(of_way)["MeanR"] for of_way in both]


def made_items(videos: int, tracks: int, *, groups: int = 0) -> Items:
    """Random items, some tracks of several videos and some of none."""
    generator = np.random.default_rng(0)

    def rows(count: int, width: int) -> np.ndarray:
        values = generator.normal(size=(count, width)).astype(np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    group = {"video_group": None, "music_group": None}
    if groups:
        group = {
            "video_group": generator.integers(groups, size=videos),
            "music_group": generator.integers(groups, size=tracks),
        }
    return Items(
        video_emb=rows(videos, 8),
        music_emb=rows(tracks, 8),
        video_inputs=rows(videos, 12),
        music_inputs=rows(tracks, 6),
        gt_music_index=generator.integers(tracks, size=videos),
        **group,
    )


@pytest.mark.parametrize("way", ["v2m", "m2v"])
def test_suspects_are_those_of_a_diagnosis(way: str) -> None:
    items = made_items(60, 40, groups=4)
    pairs = items.video_inputs, items.music_inputs[items.gt_music_index], items.gt_music_index
    rule = measured_rule(*pairs, deviations=1.5)
    diagnosed = false_negatives(items, rule, examples=10_000)
    both = pair_ranks(items.video_emb, items.music_emb, items.gt_music_index)
    of_way = dict(zip(("v2m", "m2v"), both, strict=True))[way]
    found = outcomes(way, items, rule, of_way, None, top=1000, most=1000)  # type: ignore[arg-type]
    assert found.suspected.sum() == diagnosed[way]["suspected"] > 0
    assert found.suspected.any(axis=1).sum() == diagnosed[way]["queries_with_suspects"]
    assert found.compatible is not None
    confirmed = (found.suspected & found.compatible).sum()
    assert confirmed == diagnosed[way]["truth"]["confirmed"]
    if way == "v2m":
        named = {
            (one["video"], one["track"]): (one["video_deviations"], one["music_deviations"])
            for one in diagnosed["examples"]
        }
        for n, place in np.argwhere(found.suspected):
            by_video, by_music = named[found.query[n], found.items[n, place]]
            np.testing.assert_allclose(found.by_music[n, place], by_music, atol=1e-4)
            expected = -np.inf if by_video is None else by_video
            np.testing.assert_allclose(found.by_video[n, place], expected, atol=1e-4)


def test_lists_hold_the_best_and_count_every_partner() -> None:
    items = made_items(60, 40)
    rule = measured_rule(items.video_inputs, items.music_inputs[:1].repeat(60, 0), np.arange(60))
    _, m2v = pair_ranks(items.video_emb, items.music_emb, items.gt_music_index)
    found = outcomes("m2v", items, rule, m2v, None, top=7, most=1000)
    scores = items.music_emb[found.query] @ items.video_emb.T
    np.testing.assert_array_equal(found.items, np.argsort(-scores, axis=1)[:, :7])
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :7], atol=1e-6)
    videos_of = np.bincount(items.gt_music_index, minlength=40)
    np.testing.assert_array_equal(found.partners, videos_of[found.query])
    assert (np.diff(found.rank) <= 0).all()
    assert found.compatible is None


def test_queries_are_the_worst_the_most_changed_and_some_of_every_rank() -> None:
    rank = np.random.default_rng(0).permutation(100) + 1.0
    chosen, told = chosen_queries(rank, None, 1000)
    assert (rank[chosen] == np.arange(100, 0, -1)).all()
    assert told == "all 100 queries"
    chosen, told = chosen_queries(rank, None, 20)
    assert rank[chosen].tolist() == [*range(100, 90, -1), *range(90, 0, -9)]
    assert told == "20 of 100 queries: the 10 worst, 10 spread over the other ranks"
    earlier = rank.copy()
    earlier[rank <= 4] = 50
    chosen, told = chosen_queries(rank, earlier, 12)
    assert {1.0, 2.0, 3.0, 4.0, 100.0, 99.0, 98.0, 97.0} < set(rank[chosen])
    assert len(set(chosen.tolist())) == 12
    assert "the 4 whose rank changed most" in told
    for most in range(1, 40):
        assert len(set(chosen_queries(rank, earlier, most)[0].tolist())) == most


def test_no_id_or_title_becomes_markup_or_leads_out_of_the_media(
    page: tuple[pathlib.Path, list[str]], media: pathlib.Path, embedded: Embeddings
) -> None:
    text = page[0].read_text()
    parsed = Parsed(text)
    for tag, attributes in parsed.elements:
        assert tag not in {"img", "iframe", "object", "base"}
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert len(parsed.all("script")) == len(parsed.all("style")) == 1
    shown = set(parsed.inside["bdi"])
    assert shown >= {*embedded.video_ids, *embedded.music_ids}
    assert any(told.startswith(TITLE) for told in shown)
    assert "49" not in shown
    players = [*parsed.all("audio"), *parsed.all("video")]
    assert players
    for player in players:
        assert player["preload"] == "none"
        assert re.fullmatch(r"\.\./media%20%2541(/[\w.~%-]+)+", player["src"])
        file = page[0].parent / urllib.parse.unquote(player["src"])
        assert file.resolve().is_relative_to(media.resolve())
        assert file.is_file()
    sounds = {urllib.parse.unquote(player["src"])[12:-4] for player in parsed.all("audio")}
    assert sounds == {f"/music/{item}" for item in embedded.music_ids if ".." not in item}


def test_the_policy_allows_only_the_script_and_style_of_the_page(
    page: tuple[pathlib.Path, list[str]],
) -> None:
    parsed = Parsed(page[0].read_text())
    (policy,) = (
        meta["content"]
        for meta in parsed.all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert sources["default-src"] == "'none'"
    assert sources["img-src"] == "data:"
    assert sources["media-src"] == "'self' file:"
    for kind in ("script", "style"):
        digest = hashlib.sha256(parsed.inside[kind][0].encode()).digest()
        assert sources[f"{kind}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert "//" not in re.sub(
        r"(?m)^\s*//.*$|data:[^\"]*|<script>.*?</script>", "", page[0].read_text()
    )


def test_media_are_counted_and_films_that_play_nowhere_are_told(
    page: tuple[pathlib.Path, list[str]], embedded: Embeddings
) -> None:
    path, lines = page
    parsed = Parsed(path.read_text())
    playing = sum(".." not in item for item in embedded.music_ids)
    assert f"media of {playing} of the {len(embedded.music_ids)} tracks shown" in lines
    (told,) = (line for line in lines if "videos shown" in line)
    assert re.search(r"; \d+ play in no browser, such as .*\.AVI$", told)
    assert path.read_text().count("plays in no browser:") > 0
    assert all(player["data-poster"] for player in parsed.all("video"))
    assert len(parsed.all("image")) == sum(".." not in item for item in embedded.video_ids)
    assert f"{path}, {path.stat().st_size / 1e6:.2f} MB" in lines[0]


def test_media_are_found_by_id_in_any_spelling(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "video").mkdir()
    names = ("x.mp4", "x.mp3", "y.mkv", "y.wav", "a/b.c.OGG", "e\u0301.flac", "...mp3", "z.txt")
    for name in (*names, "t.png", "video/t.webm"):
        (tmp_path / name).touch()
    folder = MediaFolders(tmp_path)

    def file(side: str, item: str) -> tuple[str | None, str | None]:
        found = folder.of(side, item)
        assert found is not None
        return found.player, found.file and found.file.name

    assert file("video", "x") == ("video", "x.mp4")
    assert file("music", "x") == ("audio", "x.mp3")
    assert file("video", "y") == (None, "y.mkv")
    assert file("music", "y") == ("audio", "y.wav")
    assert file("music", "a/b.c") == ("audio", "b.c.OGG")
    assert file("music", "\u00e9") == ("audio", "e\u0301.flac")
    assert file("music", "t") == (None, None)
    assert file("video", "t") == ("video", "t.webm")
    assert folder.of("video", "t").thumbnail == tmp_path / "t.png"  # type: ignore[union-attr]
    for absent in ("z", "../x", "/x", "a/../x", ""):
        assert folder.of("video", absent) is None
    odd = tmp_path / "a" / 'javascript:"<%41>.ogg'
    assert address(odd, tmp_path / "a") == "javascript%3A%22%3C%2541%3E.ogg"
    assert address(odd, tmp_path / "page") == "../a/javascript%3A%22%3C%2541%3E.ogg"
    for folder_of_none, message in (
        (tmp_path / "none", "no such folder"),
        (tmp_path / "a b", "no media"),
    ):
        if message == "no media":
            folder_of_none.mkdir()
        with pytest.raises(UserError, match=message):
            MediaFolders(folder_of_none)


def test_videos_and_tracks_of_one_id_lie_in_folders_of_their_own(tmp_path: pathlib.Path) -> None:
    for name in ("videos/x.mp4", "disk/x.mp4", "both/x.mp4", "both/y.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "music").symlink_to(tmp_path / "disk")
    folders = MediaFolders(tmp_path / "both", tmp_path / "videos", tmp_path / "music")
    for side, item, file in (
        ("video", "x", "videos/x.mp4"),
        ("music", "x", "music/x.mp4"),
        ("music", "y", "both/y.mp3"),
    ):
        found = folders.of(side, item)
        assert found is not None
        assert found.file == tmp_path / file
    with pytest.raises(UserError, match=f"--music={tmp_path / 'none'}: no such folder"):
        MediaFolders(music=tmp_path / "none")
    (tmp_path / "both" / "loop").symlink_to(tmp_path)
    with pytest.raises(UserError, match="loop is a link to a folder that it is in"):
        MediaFolders(tmp_path / "both")


def test_thumbnails_fit_and_broken_ones_are_told(tmp_path: pathlib.Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(180, 320, 3), dtype=np.uint8)
    good, broken = tmp_path / "good.png", tmp_path / "broken.jpg"
    Image.fromarray(noise).save(good)
    broken.write_bytes(b"no image")
    made, unreadable = thumbnails([good, broken], 1_000_000)
    assert unreadable == [broken]
    assert (made[good].width, made[good].height) == (160, 90)
    narrow, _ = thumbnails([good], len(made[good].address) - 1)
    assert narrow[good].width == 112
    assert narrow[good].address.startswith("data:image/webp;base64,")


def test_alike_items_have_like_plots() -> None:
    inputs = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    inputs[1] = 3 * inputs[0]
    bars = plotted(inputs)
    assert bars.shape == (40, 24)
    np.testing.assert_array_equal(bars[0], bars[1])
    assert np.abs(bars).max() <= 9
    assert np.std(bars / 3) == pytest.approx(1, abs=0.1)
    assert plotted(np.ones((3, 5), np.float32)).shape == (3, 0)


def test_hundreds_of_queries_stay_under_2_mb(tmp_path: pathlib.Path) -> None:
    items = made_items(1000, 900)
    track = items.gt_music_index
    rule = measured_rule(items.video_inputs, items.music_inputs[track], track, deviations=1.5)
    embedded = Embeddings(
        video_emb=items.video_emb,
        music_emb=items.music_emb,
        video_ids=np.array([f"video-{n:08}" for n in range(1000)]),
        music_ids=np.array([f"music-{n:08}" for n in range(900)]),
        gt_music_index=track,
        split="test",
        meta={},
    )
    both = pair_ranks(items.video_emb, items.music_emb, track)
    found = {
        way: outcomes(way, items, rule, ranks, ranks, top=5, most=250)
        for way, ranks in zip(("v2m", "m2v"), both, strict=True)
    }
    read = Annotations(
        ["A title of some forty characters or more"] * 1000, [(1, 2, 3)] * 999 + [tuple(range(8))]
    )
    cards = Cards(embedded, items, read, None, tmp_path)
    cut = {
        side: {
            f"{side}_emb": np.repeat(getattr(items, f"{side}_emb")[:, None], 4, axis=1),
            f"{side}_segments": np.full(count, 4),
            f"{side}_length": np.full(count, 300),
        }
        for side, count in (("video", 1000), ("music", 900))
    }
    parts = Parts(
        replace(embedded, **cut["video"], **cut["music"]), 1, {"video": 13.3, "music": 13.3}
    )
    dataset = types.SimpleNamespace(name="made", fingerprint="0" * 64)
    page = render(
        found,  # type: ignore[arg-type]
        cards,
        rule,
        types.SimpleNamespace(step=1, dataset=dataset),  # type: ignore[arg-type]
        parts,
        workdir=tmp_path / "run",
        split="test",
        against=None,
    )
    assert page.count("<article") == 500
    assert "<i>+2</i>" in page
    assert len(page.encode()) < 2_000_000


@pytest.fixture(scope="module")
def of_parts(
    media: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, pathlib.Path]:
    """A run on sequences of 12 clips, and its page with parts, where a clip is 0.8 seconds."""
    folder = media.parent / "parts"
    folder.mkdir()
    config = vmnet.get_config("runlocal")
    config.dataset.data_dir = built(folder / "data", seed=0, clips=12)
    loop.train(config, folder / "run", jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "row_seconds", lambda self, side: 0.8)
        write_gallery(
            folder / "page", folder / "run", "test", media=MediaFolders(media), top=3, segments=3
        )
    return folder / "run", folder / "page" / "index.html"


def test_partners_and_hits_tell_their_parts_and_play_from_there(
    of_parts: tuple[pathlib.Path, pathlib.Path],
) -> None:
    workdir, page = of_parts
    parts = embed_parts(restore_run(workdir), "test", 3)
    rows = {
        side: {str(item): n for n, item in enumerate(getattr(parts.embedded, f"{side}_ids"))}
        for side in ("video", "music")
    }

    def span(side: str, item: str, part: int) -> tuple[str, str]:
        length = int(getattr(parts.embedded, f"{side}_length")[rows[side][item]])
        start, end = (0.8 * (length * edge // 3) for edge in (part, part + 1))
        return f"{clock(start)}–{clock(end)}", f"#t={start:g},{end:g}"

    told = 0
    for article in re.findall(r"<article.*?</article>", page.read_text(), re.DOTALL):
        query, *answers = re.split(r"<li", article)
        asking, answering = ("video", "music") if 'way="v2m"' in article else ("music", "video")
        partner = html.unescape(re.search(r"true: <bdi>(.*?)</bdi>", query)[1])  # type: ignore[index]
        for answer in answers:
            ids = {
                side: html.unescape(re.search(r'class="id"><bdi>(.*?)</bdi>', part)[1])  # type: ignore[index]
                for side, part in ((asking, query), (answering, answer))
            }
            scores = parts.scores(rows["video"][ids["video"]], rows["music"][ids["music"]])
            best = dict(zip(("video", "music"), divmod(int(np.argmax(scores)), 3), strict=True))
            spans = {side: span(side, ids[side], part) for side, part in best.items()}
            expected = f"{spans['video'][0]} of the video fits {spans['music'][0]} of the track"
            assert re.findall(r'class="note">(.* fits .*)</p>', answer) == [expected]
            shown = [(answering, answer)]
            if ids[answering] == partner:
                shown.append((asking, query))
            for side, part in shown:
                sources = re.findall(r'src="(.*?)"', part)
                assert all(source.endswith(spans[side][1]) for source in sources)
                told += len(sources)
    assert told > 50


def test_parts_of_unknown_length_are_shares_and_start_nowhere(
    of_parts: tuple[pathlib.Path, pathlib.Path], media: pathlib.Path
) -> None:
    output = of_parts[0].parent / "shares"
    write_gallery(output, of_parts[0], "test", media=MediaFolders(media), segments=3, queries=4)
    text = (output / "index.html").read_text()
    assert "#t=" not in text
    assert re.search(r"(0–33|33–67|67–100) % of the video fits (0–33|33–67|67–100) % of the", text)


def test_vectors_have_no_parts_to_show(workdir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    flags = (f"--workdir={workdir}", "--split=test", f"--output={tmp_path}/page", "--segments=3")
    done = run("experiments.gallery", *flags)
    assert done.returncode == 1
    assert "holds one vector an item, expected sequences" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(0, "0:00"), (70, "1:10"), (59.96, "1:00"), (2.5, "0:02.5"), (3671.2, "1:01:11.2")],
)
def test_times_are_spelled_as_on_a_clock(seconds: float, spelled: str) -> None:
    assert clock(seconds) == spelled


def test_annotations_stand_in_stored_order(data_dir: str, embedded: Embeddings) -> None:
    read = annotations(open_dataset(data_dir), "test")
    numbers = [int(item.rpartition(" v")[2]) for item in embedded.video_ids]
    assert read.labels == [(number % 3, 10 + number % 5) for number in numbers]
    assert all(text.startswith(f"{TITLE}\n") for text in read.texts)
    assert len(read.texts) == len(numbers)


def test_a_page_is_replaced_and_nothing_else_is(
    workdir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "gallery"
    output.mkdir()
    write_gallery(output, workdir, "test", queries=3)
    first = (output / "index.html").read_text()
    assert first.count("<article") == 6
    (output / "note.txt").write_text("mine")
    write_gallery(output, workdir, "test", queries=2)
    assert (output / "index.html").read_text().count("<article") == 4
    assert sorted(path.name for path in output.iterdir()) == ["index.html", "note.txt"]
    for name, content in (("index.html", "<p>mine"), ("results.json", "{}")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(content)
        with pytest.raises(UserError, match="a folder of other things than a gallery"):
            write_gallery(folder, workdir, "test")
        assert [path.read_text() for path in folder.iterdir()] == [content]
    with pytest.raises(UserError, match="is a file, expected a folder"):
        write_gallery(output / "note.txt", workdir, "test")


def test_a_run_on_other_data_or_of_one_modality_is_refused(
    workdir: pathlib.Path, other: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    output = tmp_path / "gallery"
    with pytest.raises(UserError, match="is the run itself"):
        write_gallery(output, workdir, "test", against=workdir)
    for name, changed, message in (
        ("environment.json", {"dataset_fingerprint": "0" * 64}, "was trained on other data"),
        ("config.json", {"pairing": "music"}, "compares music with itself"),
    ):
        folder = tmp_path / name.removesuffix(".json")
        shutil.copytree(other, folder)
        saved = json.loads((folder / name).read_text()) | changed
        if name == "config.json":
            saved["sampling"] = {"method": "global_sparse", "clips": 4}
        (folder / name).write_text(json.dumps(saved))
        with pytest.raises(UserError, match=message) as raised:
            write_gallery(output, workdir, "test", against=folder)
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match="compares music with itself"):
        write_gallery(output, tmp_path / "config", "test")
    assert not output.exists()


def test_the_command_writes_a_page_and_answers_mistakes_in_one_line(
    workdir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    flags = (f"--workdir={workdir}", f"--output={tmp_path}/page")
    for wrong, message in (
        ("--split=tset", "has no split 'tset'"),
        ("--media=", "--media= is empty"),
        ("--against=", "--against= is empty"),
        (f"--media={tmp_path}/none", "no such folder"),
        (f"--against={tmp_path}/none", "config.json is missing"),
        ("--top=0", "--top=0"),
    ):
        done = run("experiments.gallery", *flags, wrong)
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "page").exists()
    printed = succeed("experiments.gallery", *flags, "--split=test", "--queries=4")
    assert "video → music: 4 of" in printed
    assert (tmp_path / "page" / "index.html").is_file()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver here: the page is not tried in a browser")
    selenium = pytest.importorskip("selenium.webdriver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--mute-audio"),
        *("--autoplay-policy=no-user-gesture-required", f"--user-data-dir={profile}"),
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.ChromeService(driver)
    opened = selenium.Chrome(options, service)
    yield opened
    opened.quit()


@pytest.fixture
def opened(browser: Any, page: tuple[pathlib.Path, list[str]]) -> Iterator[Any]:
    """The page in a browser, which has logged no error when the test ends."""
    browser.get("about:blank")  # to load anew, not again
    browser.get(page[0].as_uri())
    wait(browser, "return document.readyState === 'complete'")
    yield browser
    assert browser.get_log("browser") == []


def wait(browser: Any, until: str, *arguments: Any) -> None:
    deadline = time.monotonic() + 30
    while not browser.execute_script(until, *arguments):
        assert time.monotonic() < deadline, until
        time.sleep(0.05)


def choose(browser: Any, name: str, value: str) -> None:
    """Chooses as a person does, which fires `change`."""
    browser.find_element("css selector", f"#{name} option[value={value}]").click()


def shown(browser: Any) -> list[dict[str, str]]:
    return browser.execute_script(
        "return [...document.querySelectorAll('article')].filter(row => row.offsetParent)"
        ".map(row => ({...row.dataset, id: row.querySelector('.query .id').textContent}))"
    )


def test_a_browser_shows_nothing_of_a_hostile_title(opened: Any) -> None:
    assert opened.execute_script("return window.hacked") is None
    assert opened.execute_script("return document.querySelectorAll('script, img').length") == 1
    titles = opened.execute_script(
        "return [...document.querySelectorAll('.title')].map(title => title.textContent)"
    )
    assert all(title.startswith(TITLE) for title in titles)
    ids = opened.execute_script(
        "return [...document.querySelectorAll('.id')].map(part => part.textContent)"
    )
    assert {name for name in HOSTILE if any(item.startswith(name) for item in ids)} == {*HOSTILE}


def test_a_browser_filters_sorts_and_searches(opened: Any) -> None:
    rows = shown(opened)
    assert {row["way"] for row in rows} == {"v2m"}
    ranks = [float(row["rank"]) for row in rows]
    assert ranks == sorted(ranks, reverse=True)
    choose(opened, "sort", "best")
    assert [float(row["rank"]) for row in shown(opened)] == sorted(ranks)
    choose(opened, "sort", "id")
    ids = [row["id"] for row in shown(opened)]
    assert ids == sorted(ids)
    expected = {
        "hits": [row for row in rows if row["hit"] == "1"],
        "misses": [row for row in rows if row["hit"] == "0"],
        "suspects": [row for row in rows if int(row["suspects"])],
        "wins": [row for row in rows if float(row["change"]) > 0],
        "losses": [row for row in rows if float(row["change"]) < 0],
        "all": rows,
    }
    for name, of_name in expected.items():
        choose(opened, "show", name)
        found = shown(opened)
        assert {row["id"] for row in found} == {row["id"] for row in of_name}
        count = opened.find_element("id", "count").text
        assert count == f"{len(of_name)} of {len(rows)}"
    choose(opened, "way", "m2v")
    assert {row["way"] for row in shown(opened)} == {"m2v"}
    choose(opened, "way", "v2m")
    search = opened.find_element("id", "search")
    search.send_keys(rows[0]["id"].upper())
    assert rows[0]["id"] in [row["id"] for row in shown(opened)]
    assert len(shown(opened)) < len(rows)
    search.clear()
    search.send_keys("nothing of the kind")
    assert shown(opened) == []


def test_a_browser_plays_one_at_a_time(opened: Any) -> None:
    playing = (
        "return [...document.querySelectorAll('audio, video')].map((player, n) => [player, n])"
        ".filter(([player]) => !player.paused && player.currentTime > 0).map(([, n]) => n)"
    )
    film = opened.find_element("css selector", "article:not([hidden]) video")
    opened.execute_script("arguments[0].scrollIntoView()", film)
    wait(opened, "return arguments[0].controls", film)
    assert film.get_attribute("poster").startswith("data:image/webp")
    players = opened.find_elements("css selector", "article:not([hidden]) audio")
    for player in players[:2]:
        opened.execute_script("return arguments[0].play()", player)
        wait(opened, "return arguments[0].currentTime > 0", player)
        assert len(opened.execute_script(playing)) == 1
    choose(opened, "way", "m2v")
    assert opened.execute_script(playing) == []


def test_a_browser_fits_the_page_to_a_phone(opened: Any) -> None:
    size = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 360
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
