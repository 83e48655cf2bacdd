"""The commands index and search, from a model's folder to hits, and their mistakes."""

import csv
import io
import json
import pathlib

import numpy as np
import pytest
from front_doors import run, succeed

from vmr import embeddings
from vmr.collection import open_collection, write_npz
from vmr.runs.model import load

RUN = pathlib.Path(__file__).parents[1] / "training/formats/run"  # of widths 4 and some few


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Embedded items of a tiny model, files of features, and an index."""
    pytest.importorskip("faiss")
    folder, model, random = tmp_path_factory.mktemp("search"), load(RUN), np.random.default_rng(0)
    for side, items in (("video", 12), ("music", 50)):
        features = random.standard_normal((items, model.widths[side])).astype(np.float32)
        rows = model.embed_video(features) if side == "video" else model.embed_music(features)
        names = [f"{side}_{n}" for n in range(items)]
        write_npz(folder / f"{side}.npz", side, [rows], names, model.meta())
        np.save(folder / f"{side}_0.npy", features[0])
    embeddings.save(folder / "both.npz", rows[:12], rows, np.arange(12))
    write_npz(folder / "other.npz", "music", [rows], names, {"model": "0" * 64})
    succeed(
        "experiments.index", f"--embeddings={folder}/music.npz", f"--queries={folder}/video.npz",
        "--kind=hnsw", f"--output={folder}/index",
    )  # fmt: skip
    return folder


def test_a_file_and_its_id_have_the_same_hits_in_embeddings_and_index(folder: pathlib.Path) -> None:
    asked = [
        (f"--embeddings={folder}/music.npz", f"--video={folder}/video_0.npy"),
        (f"--index={folder}/index", f"--video={folder}/video_0.npy"),
        (f"--index={folder}/index", "--video=video_0", f"--queries={folder}/video.npz"),
    ]
    found = []
    for flags in asked:
        out = succeed("experiments.search", f"--model={RUN}", *flags, "--top=5", "--format=json")
        found.append([hit["id"] for hit in json.loads(out)["hits"]])
    video, music = (open_collection(folder / f"{side}.npz") for side in ("video", "music"))
    nearest = np.argsort(-(music.parts[0] @ video.parts[0][0]), kind="stable")[:5]
    assert found == [music.ids[nearest].tolist()] * 3


def test_the_forms_and_the_output(folder: pathlib.Path) -> None:
    flags = (f"--embeddings={folder}/music.npz", "--music=music_7", "--top=3", "--exclude=music_1")
    table = succeed("experiments.search", *flags).splitlines()
    assert table[0].split() == ["rank", "score", "id"]
    assert len(table) == 4
    out = succeed("experiments.search", *flags, "--format=csv", f"--output={folder}/hits.csv")
    assert out == f"written to {folder}/hits.csv\n"
    rows = list(csv.DictReader(io.StringIO((folder / "hits.csv").read_text())))
    assert [row["id"] for row in rows] == [line.split()[2] for line in table[1:]]
    assert not {"music_1", "music_7"} & {row["id"] for row in rows}


def test_csls_and_what_is_to_be_known_of_it(folder: pathlib.Path) -> None:
    done = run(
        "experiments.search", f"--embeddings={folder}/music.npz", f"--queries={folder}/video.npz",
        "--video=video_3", "--top=100", "--hubness=csls",
    )  # fmt: skip
    assert done.stdout.split()[:4] == ["rank", "score", "csls", "id"]
    notes = done.stderr.splitlines()
    assert f"by a bank of 12 video rows of {folder}/video.npz" in notes[0]
    assert notes[1:] == ["50 hits instead of 100: 50 items there"]


def test_an_index_says_what_it_is(folder: pathlib.Path) -> None:
    flags = (f"--embeddings={folder}/music.npz", "--kind=ivf", f"--output={folder}/ivf")
    lines = succeed("experiments.index", *flags).splitlines()
    assert lines[0].startswith("ivf (IVF1,SQfp16): 50 of music x ")
    assert lines[1].startswith("1 lists instead of 4·√M = 28")
    assert "of its own rows with noise" in lines[2]
    assert lines[3] == f"written to {folder}/ivf"


@pytest.mark.parametrize(
    ("module", "flags", "message"),
    [
        ("search", ["--embeddings=F/music.npz"], "give --video=ITEM to search music, or"),
        ("search", ["--video=video_0"], "give --index=DIR or --embeddings=FILE.npz|FOLDER"),
        ("search", ["--embeddings=", "--video=video_0"], "--embeddings= is empty"),
        (
            "search",
            ["--model=RUN", "--embeddings=F/other.npz", "--video=F/video_0.npy"],
            "other.npz was embedded by model 000000000000, and ",
        ),
        (
            "search",
            ["--model=RUN", "--embeddings=F/music.npz", "--video=F/music_0.npy"],
            "expects of music; of video it expects 4",
        ),
        ("search", ["--index=F/index", "--music=music_5O"], "; nearest: 'music_5', 'music_"),
        ("search", ["--index=F", "--music=music_5"], "holds no finished index"),
        ("search", ["--index=F/index", "--video=F/video_0.npy"], "give --model=DIR"),
        ("search", ["--index=F/index", "--music=music_5", "--model=F"], "error: "),
        ("search", ["--index=F/index", "--music=music_5", "--top=0"], "--top=0"),
        ("index", ["--embeddings=F/absent.npz", "--output=F/new"], "absent.npz does not exist"),
        ("index", ["--embeddings=F/music.npz"], "--output is required"),
        ("index", ["--embeddings=F/music.npz", "--output="], "--output= is empty"),
        (
            "index",
            ["--embeddings=F/both.npz", "--output=F/new"],
            "holds both modalities: give --si",
        ),
        ("index", ["--embeddings=", "--output=F/new"], "--embeddings= is empty"),
        (
            "index",
            ["--embeddings=F/music.npz", "--queries=", "--output=F/new"],
            "--queries= is empty",
        ),
        ("search", ["--index=F/index", "--music=music_5", "--model="], "--model= is empty"),
        ("search", ["--index=F/index", "--music=music_5", "--exclude="], "--exclude= is empty"),
        (
            "index",
            ["--embeddings=F/music.npz", "--queries=F/other.npz", "--output=F/new"],
            "other.npz holds music_emb, expected video_emb",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: pathlib.Path, module: str, flags: list[str], message: str
) -> None:
    given = [flag.replace("F/", f"{folder}/").replace("=F", f"={folder}") for flag in flags]
    done = run(f"experiments.{module}", *[flag.replace("RUN", str(RUN)) for flag in given])
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (folder / "new").exists()
