"""Runs and npz files compared: the same queries found, whatever their order, or refused."""

import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Callable

import front_doors
import numpy as np
import pytest
from runs import ONE, Trained, smoke_config

from vmr import embeddings
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation import metrics, pair_ranks, tiles
from vmr.runs import compare, evaluate, hubness
from vmr.runs.compare import named_systems
from vmr.runs.restore import restore_run
from vmr.training import loop

Runs = dict[str, pathlib.Path]
ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("one", "other")


@pytest.fixture(scope="module")
def runs(data_dir: str, smoke_run: Trained, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two seeds of the smoke variant, and the npz of each one's test split."""
    folder = tmp_path_factory.mktemp("compared")
    found = {"one": smoke_run.workdir, "other": folder / "other"}
    config = smoke_config(data_dir)
    config.seed = 1
    loop.train(config, found["other"], ONE)
    for name in NAMES:
        run = restore_run(found[name])
        found[f"{name}.npz"] = folder / f"{name}.npz"
        embeddings.write(found[f"{name}.npz"], run.embed("test"), "test", {"step": run.step})
    return found


def saved(path: pathlib.Path, loaded: Embeddings) -> pathlib.Path:
    names = ("video_emb", "music_emb", "video_ids", "music_ids", "gt_music_index")
    arrays = {name: getattr(loaded, name) for name in names}
    meta = np.array(json.dumps(dict(loaded.meta)))
    np.savez(path, split=np.array(loaded.split), meta=meta, **arrays)
    return path


def shuffled(loaded: Embeddings) -> Embeddings:
    generator = np.random.default_rng(0)
    videos = generator.permutation(len(loaded.video_ids))
    tracks = generator.permutation(len(loaded.music_ids))
    return dataclasses.replace(
        loaded,
        video_emb=loaded.video_emb[videos],
        music_emb=loaded.music_emb[tracks],
        video_ids=loaded.video_ids[videos],
        music_ids=loaded.music_ids[tracks],
        gt_music_index=np.argsort(tracks)[loaded.gt_music_index[videos]].astype(np.int32),
    )


def compared(systems: dict[str, list[pathlib.Path]], **options: object) -> dict:
    return compare.compare_runs(systems, "test", **{"samples": 200, **options})  # type: ignore[arg-type]


def numbers(found: dict) -> dict:
    """A comparison without the paths that it was made from."""
    return {name: found[name] for name in ("v2m", "m2v")}


def test_runs_and_their_embeddings_in_any_order_give_one_answer(
    runs: Runs, tmp_path: pathlib.Path
) -> None:
    of_runs = compared({"a": [runs["one"]], "b": [runs["other"]]})
    of_files = compared({"a": [runs["one.npz"]], "b": [runs["other.npz"]]})
    other = saved(tmp_path / "shuffled.npz", shuffled(embeddings.load(runs["other.npz"])))
    of_shuffled = compared({"a": [runs["one"]], "b": [other]})
    assert json.loads(json.dumps(of_runs)) == of_runs
    assert numbers(of_files) == numbers(of_runs)
    assert numbers(of_shuffled) == numbers(of_runs)
    assert of_runs["systems"]["a"] == {
        "paths": [str(runs["one"])],
        "seeds": 1,
        "steps": of_files["systems"]["a"]["steps"],
    }


def test_means_are_those_of_evaluate_and_differences_are_between_them(runs: Runs) -> None:
    found = compared({"a": [runs["one"]], "b": [runs["other"]]}, metrics=["R@5", "MedR", "MRR"])
    alone = {
        name: evaluate.evaluate_run(runs[run], "test")
        for name, run in zip("ab", NAMES, strict=True)
    }
    for direction in ("v2m", "m2v"):
        (pair,) = found[direction]["pairs"]
        assert (pair["system"], pair["baseline"]) == ("b", "a")
        assert "two runs" in pair["scope"]
        for metric, one in pair["metrics"].items():
            means = [alone[name][direction][metric] for name in "ba"]
            assert one["difference"] == pytest.approx(means[0] - means[1])
            assert one["p_holm"] == one["p"]
            summary = found[direction]["systems"]["b"][metric]
            assert summary == {"mean": pytest.approx(means[0]), "seed_sd": None}
    assert found["v2m"]["queries"] == alone["a"]["queries"]
    assert found["v2m"]["gallery"] == alone["a"]["gallery"]
    assert found["m2v"]["queries"] == alone["a"]["m2v_queries"]
    assert found["m2v"]["gallery"] == alone["a"]["m2v_gallery"]


def test_videos_of_a_track_are_one_cluster(runs: Runs) -> None:
    found = compared({"a": [runs["one.npz"]], "b": [runs["other.npz"]]})
    loaded = embeddings.load(runs["one.npz"])
    tracks = len(np.unique(loaded.gt_music_index))
    assert found["v2m"]["clusters"] == found["m2v"]["clusters"] == tracks
    assert tracks < found["v2m"]["queries"]


def noisy(loaded: Embeddings, seed: int) -> Embeddings:
    noise = 0.3 * np.random.default_rng(seed).standard_normal(loaded.video_emb.shape)
    rows = loaded.video_emb + noise
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return dataclasses.replace(loaded, video_emb=rows.astype(np.float32))


def test_seeds_pairs_and_the_correction(runs: Runs, tmp_path: pathlib.Path) -> None:
    loaded = embeddings.load(runs["one.npz"])
    paths = [saved(tmp_path / f"{n}.npz", noisy(loaded, n)) for n in range(6)]
    systems = {"a": paths[:3], "b": paths[3:5], "c": paths[5:]}
    found = compared(systems, metrics=["MRR"])
    named = [(pair["system"], pair["baseline"]) for pair in found["v2m"]["pairs"]]
    assert named == [("b", "a"), ("c", "a"), ("c", "b")]
    assert "Holm-corrected over 3 pairs" in found["correction"]
    for direction in ("v2m", "m2v"):
        ones = [pair["metrics"]["MRR"] for pair in found[direction]["pairs"]]
        assert all(one["p"] <= one["p_holm"] <= 1 for one in ones)
        smallest = min(ones, key=lambda one: one["p"])
        assert smallest["p_holm"] == pytest.approx(min(1, 3 * smallest["p"]))
    reached = []
    for path in paths[:3]:
        seed = embeddings.load(path)
        v2m, _ = pair_ranks(seed.video_emb, seed.music_emb, seed.gt_music_index)
        reached.append(metrics.table_values(v2m)["MRR"].mean())
    assert found["v2m"]["systems"]["a"]["MRR"] == {
        "mean": pytest.approx(np.mean(reached)),
        "seed_sd": pytest.approx(np.std(reached, ddof=1)),
    }
    first = compared(systems, metrics=["MRR"], against="first")
    named = [(pair["system"], pair["baseline"]) for pair in first["m2v"]["pairs"]]
    assert named == [("b", "a"), ("c", "a")]


Change = Callable[[Embeddings], Embeddings]


def of_music_alone(loaded: Embeddings) -> Embeddings:
    return dataclasses.replace(loaded, meta={"config": {"pairing": "music"}})


def fewer(loaded: Embeddings) -> Embeddings:
    return dataclasses.replace(
        loaded,
        video_emb=loaded.video_emb[:-1],
        video_ids=loaded.video_ids[:-1],
        gt_music_index=loaded.gt_music_index[:-1],
    )


def renamed(loaded: Embeddings) -> Embeddings:
    return dataclasses.replace(loaded, music_ids=np.char.add("x", loaded.music_ids))


def repaired(loaded: Embeddings) -> Embeddings:
    moved = loaded.gt_music_index.copy()
    moved[0] = (moved[0] + 1) % len(loaded.music_ids)
    return dataclasses.replace(loaded, gt_music_index=moved)


def twice(loaded: Embeddings) -> Embeddings:
    ids = np.full_like(loaded.video_ids, loaded.video_ids[0])
    return dataclasses.replace(loaded, video_ids=ids)


def of_training(loaded: Embeddings) -> Embeddings:
    return dataclasses.replace(loaded, split="train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fewer, r"not over the same queries: 1 of the videos are only in .*one\.npz, such as '"),
        (renamed, r"of the tracks are only in .*one\.npz, such as .*only in .*wrong\.npz"),
        (repaired, r"the tracks of 1 videos differ, such as that of '"),
        (twice, r"wrong\.npz: video_ids has '.*' twice with the same track"),
        (of_music_alone, r"not over the same queries: config\.pairing is video_music and music"),
        (of_training, r"wrong\.npz holds the split 'train', --split asks for 'test'"),
    ],
)
def test_other_queries_are_refused_in_one_line(
    runs: Runs, tmp_path: pathlib.Path, change: Change, message: str
) -> None:
    wrong = saved(tmp_path / "wrong.npz", change(embeddings.load(runs["other.npz"])))
    with pytest.raises(UserError, match=message) as raised:
        compared({"a": [runs["one.npz"]], "b": [wrong]})
    assert "\n" not in str(raised.value)


def test_half_a_run_is_refused(runs: Runs, tmp_path: pathlib.Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"empty holds no run: config\.json is missing"):
        compared({"a": [runs["one.npz"]], "b": [empty]})
    for name in ("config.json", "environment.json"):
        (empty / name).write_text((runs["one"] / name).read_text())
    with pytest.raises(UserError, match="empty has no checkpoint yet"):
        compared({"a": [runs["one.npz"]], "b": [empty]})
    (empty / "checkpoints").mkdir()
    with pytest.raises(UserError, match="empty has no validated checkpoint yet"):
        compared({"a": [runs["one.npz"]], "b": [empty]})
    with pytest.raises(UserError, match="absent does not exist; expected a run's folder or an npz"):
        compared({"a": [runs["one.npz"]], "b": [tmp_path / "absent"]})


def test_what_makes_no_comparison_is_refused_before_anything_is_read(
    tmp_path: pathlib.Path,
) -> None:
    # No npz: to read one would be another complaint.
    one, other = tmp_path / "one.npz", tmp_path / "other.npz"
    one.touch()
    other.touch()
    both = {"a": [one], "b": [other]}
    for systems, options, message in (
        ({"a": [one, other]}, {}, "at least two systems, found 1"),
        ({"a": [one], "b": [other, one]}, {}, r"one\.npz is there twice, in a and in b"),
        ({"a": [one], "b": [tmp_path / "." / "one.npz"]}, {}, "is there twice"),
        ({"a": [one], "b": []}, {}, "b has no path"),
        (both, {"metrics": ["R@7"]}, "--metrics: unknown 'R@7'; expected some of R@1"),
        (both, {"metrics": ["MRR", "MRR"]}, "--metrics=MRR,MRR: expected at least one, each once"),
        (both, {"metrics": []}, "--metrics=: expected at least one"),
        (both, {"against": "last"}, "--against=last: expected all or first"),
    ):
        with pytest.raises(UserError, match=message):
            compared(systems, **options)


def test_a_correction_of_hubness_is_a_further_system(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the numbers of `evaluate --hubness`, and tested like any other."""
    monkeypatch.setattr(tiles, "TILE", 64)
    corrections = hubness.HubnessOptions(["csls"])
    found = compared({"one": [runs["one"]]}, hubness=corrections)
    assert list(found["systems"]) == ["one", "one + csls"]
    expected = evaluate.evaluate_run(
        runs["one"], "test", beyond=evaluate.Beyond(hubness=corrections)
    )
    for way in ("v2m", "m2v"):
        by_system = found[way]["systems"]
        for metric, reached in by_system["one + csls"].items():
            assert reached["mean"] == pytest.approx(expected["hubness"]["csls"][way][metric])
            assert by_system["one"][metric]["mean"] == pytest.approx(expected[way][metric])
        assert [pair["system"] for pair in found[way]["pairs"]] == ["one + csls"]
    assert found["systems"]["one + csls"]["hubness"] == [expected["hubness"]["csls"]["settings"]]
    assert "hubness" not in found["systems"]["one"]
    assert "one + csls against one" in compare.report(found, "text")


def test_settings_chosen_on_the_split_itself_are_said_to_be() -> None:
    rows = np.eye(4, dtype=np.float32)
    ids = np.array(list("abcd"))
    embedded = Embeddings(rows, rows, ids, ids, np.arange(4), "validation", {})
    plain = compare.scored(pathlib.Path("one"), embedded)
    corrected = dataclasses.replace(plain, settings={"v2m": {"k": 5}, "m2v": {"k": 5}})
    systems = {"one": [plain], "one + csls": [corrected]}
    for split, told in (("validation", True), ("test", False)):
        found = compare.compare_scored(systems, split, samples=100)
        for form, layout in (("text", "full"), ("markdown", "full"), ("latex", "narrow")):
            assert ("this very split" in compare.report(found, form, layout)) is told
    found = compare.compare_scored({"one": [plain], "two": [plain]}, "validation", samples=100)
    assert "this very split" not in compare.report(found, "text")


def test_what_has_no_training_split_is_not_corrected(runs: Runs) -> None:
    corrections = hubness.HubnessOptions(["csls"])
    with pytest.raises(UserError, match=r"one.npz of one is a file, expected the folder of a run"):
        compared({"one": [runs["one.npz"]]}, hubness=corrections)
    systems = {"one": [runs["one"]], "one + csls": [runs["other"]]}
    with pytest.raises(UserError, match=r"one \+ csls is what --hubness adds to one"):
        compared(systems, hubness=corrections)


def test_systems_as_they_are_typed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a_0", "a_1", "b+c", "runs/w=0.2"):
        pathlib.Path(name).mkdir(parents=True)

    def paths(*typed: str) -> dict[str, list[str]]:
        return {name: list(map(str, found)) for name, found in named_systems(typed).items()}

    assert paths("a=a_0+a_1", "b+c") == {"a": ["a_0", "a_1"], "b+c": ["b+c"]}
    assert paths("a=a_*", "x=b+c") == {"a": ["a_0", "a_1"], "x": ["b+c"]}
    assert paths("runs/w=0.2", "w=runs/w=0.2") == {
        "runs/w=0.2": ["runs/w=0.2"],
        "w": ["runs/w=0.2"],
    }
    for typed, message in (
        (["a=a_0", "a=a_1"], "two systems are called 'a'"),
        (["=a_0"], "'=a_0' has an empty name"),
        (["a=a_0+"], r"'a=a_0\+' has an empty path"),
        (["a=c_*"], r"c_\* does not exist; expected a run's folder or an npz file"),
    ):
        with pytest.raises(UserError, match=message):
            named_systems(typed)


def test_a_report_is_in_the_form_that_its_name_ends_in(runs: Runs, tmp_path: pathlib.Path) -> None:
    found = compared({"a_1": [runs["one.npz"]], "b": [runs["other.npz"]]})
    for name, start in (("x.md", "**video"), ("x.tex", r"\paragraph"), ("x.txt", "video → music")):
        compare.write_report(tmp_path / name, found, None)
        assert (tmp_path / name).read_text().startswith(start)
    compare.write_report(tmp_path / "x.json", found, None)
    assert json.loads((tmp_path / "x.json").read_text()) == found
    compare.write_report(tmp_path / "x.md", found, "latex")
    assert (tmp_path / "x.md").read_text().startswith(r"\paragraph")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        compare.write_report(tmp_path / "file" / "x.md", found, None)


def test_the_command_prints_a_verdict_and_answers_mistakes_in_one_line(
    runs: Runs, tmp_path: pathlib.Path
) -> None:
    def command(*flags: str) -> subprocess.CompletedProcess:
        return front_doors.run("experiments.compare", "--split=test", *flags)

    both = f"--runs=a={runs['one.npz']},b={runs['other.npz']}"
    output = tmp_path / "found.json"
    done = command(both, "--samples=200", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert "b against a (one seed each" in done.stdout
    assert json.loads(output.read_text())["v2m"]["pairs"]
    for flags, message in (
        (["--runs=absent,absent2"], "absent does not exist"),
        ([both, "--metrics=R@7"], "unknown 'R@7'"),
        ([both, "--split=validation"], "--split asks for 'validation'"),
    ):
        done = command(*flags)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert message in done.stderr
