"""Ensembles: the weighted sum of scores that their rows give, and the choice of their weights."""

import dataclasses
import json
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from front_doors import run as run_command
from front_doors import succeed
from runs import Trained

import vmr
from vmr import embeddings
from vmr.collection import open_collection
from vmr.errors import UserError
from vmr.evaluation.evaluate import recalls
from vmr.runs import ensemble_folder, model_folder
from vmr.runs.ensemble import (
    Ensemble,
    coefficients_of,
    greedy_counts,
    open_ensemble,
    require_features,
    score_spread,
    weighted,
)
from vmr.runs.ensemble_model import EnsembleModel, Member, concatenated, require_together
from vmr.runs.model import model_of_run
from vmr.runs.restore import restore_run

RunOf = Callable[[str], Trained]
# One of the mean of a sequence, one that samples clips and reads text: 16 and 16 numbers.
NAMES = ("vmnet:runlocal", "ii_clvtm:runlocal")


@pytest.fixture(scope="module")
def folders(run_of: RunOf) -> list[pathlib.Path]:
    return [run_of(name).workdir for name in NAMES]


@pytest.fixture(scope="module")
def both(folders: list[pathlib.Path]) -> Ensemble:
    return open_ensemble(folders)


@pytest.fixture(scope="module")
def sent(both: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of `both`."""
    folder = tmp_path_factory.mktemp("sent") / "ensemble"
    ensemble_folder.write(both.model, folder)
    return folder


def collected(run: Any, split: str = "test") -> embeddings.Embeddings:
    return embeddings.collect(run.embed(split), split, run.meta())


def unit_rows(seed: int, *shape: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_scores_are_the_weighted_sum_of_scores() -> None:
    rows = [np.array([[0.6, 0.8], [1, 0]], np.float32), np.array([[0, 1], [1, 0]], np.float32)]
    joined = concatenated([0.25, 0.75], rows)
    expected = [[0.3, 0.4, 0, math.sqrt(0.75)], [0.5, 0, math.sqrt(0.75), 0]]
    np.testing.assert_allclose(joined, expected, rtol=1e-6)
    np.testing.assert_allclose(joined @ joined.T, [[1, 0.15], [0.15, 1]], atol=1e-6)
    assert joined.dtype == np.float32


def test_the_spread_is_that_of_the_whole_matrix() -> None:
    # Rows around a mean: the mean of the scores is not 0.
    video, music = (unit_rows(n, size, 5) + 0.5 for n, size in enumerate((9000, 11)))
    scores = video.astype(np.float64) @ music.astype(np.float64).T
    assert score_spread(video, music) == pytest.approx(scores.std(), rel=1e-9)


def test_coefficients_divide_by_the_spread() -> None:
    assert coefficients_of([1, 1], [0.1, 0.3]) == pytest.approx([0.75, 0.25])
    assert coefficients_of([2, 0, 1], [0.1, 0.2, 0.1]) == pytest.approx([2 / 3, 0, 1 / 3])


def test_an_ensemble_of_runs_scores_by_all_of_them(
    both: Ensemble, folders: list[pathlib.Path]
) -> None:
    runs = [restore_run(folder) for folder in folders]
    spreads = []
    for run in runs:
        validation = collected(run, "validation")
        spreads.append(np.std(validation.video_emb @ validation.music_emb.T))
    shares = [1 / spread / sum(1 / each for each in spreads) for spread in spreads]
    assert [member.coefficient for member in both.members] == pytest.approx(shares, rel=1e-4)
    alone = [collected(run) for run in runs]
    found = collected(both)
    np.testing.assert_allclose(np.sum(found.video_emb**2, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.sum(found.music_emb**2, axis=1), 1, atol=1e-5)
    expected = sum(
        share * (of.video_emb @ of.music_emb.T) for share, of in zip(shares, alone, strict=True)
    )
    np.testing.assert_allclose(found.video_emb @ found.music_emb.T, expected, atol=1e-4)
    for name in ("video_ids", "music_ids", "gt_music_index", "video_group", "music_group"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone[0], name))
    accounts = found.meta["ensemble"]
    assert [account["model"] for account in accounts] == [of.meta["model"] for of in alone]
    assert [account["step"] for account in accounts] == [of.meta["step"] for of in alone]
    assert found.meta["step"] is None
    assert found.meta["model"] not in {of.meta["model"] for of in alone}
    assert found.meta["dataset_fingerprint"] == alone[0].meta["dataset_fingerprint"]


def test_the_order_of_batches_is_that_of_any_size(both: Ensemble) -> None:
    found = embeddings.collect(both.embed("test", 4), "test", {})
    np.testing.assert_allclose(found.video_emb, collected(both).video_emb, atol=2e-6)


def test_one_member_is_the_member(folders: list[pathlib.Path]) -> None:
    one, run = open_ensemble(folders[:1]), restore_run(folders[0])
    expected, found = collected(run), collected(one)
    np.testing.assert_array_equal(found.video_emb, expected.video_emb)
    np.testing.assert_array_equal(found.music_emb, expected.music_emb)
    assert found.meta["model"] == expected.meta["model"]


def test_a_model_folder_is_a_member_like_its_run(
    both: Ensemble, folders: list[pathlib.Path], rich_dir: str, tmp_path: pathlib.Path
) -> None:
    models = [tmp_path / str(n) for n in range(2)]
    for folder, model in zip(folders, models, strict=True):
        model_folder.write(model_of_run(folder), model)
    mixed = open_ensemble([models[0], folders[1]])
    assert mixed.model.fingerprint == both.model.fingerprint
    with pytest.raises(UserError, match="of model folders alone needs --data_dir"):
        open_ensemble(models)
    assert open_ensemble(models, rich_dir).model.fingerprint == both.model.fingerprint
    with pytest.raises(UserError, match="are the same model"):
        open_ensemble([models[0], folders[0]])


def naive_greedy(
    score: Callable[[tuple[int, ...]], float], members: int, rounds: int
) -> list[tuple[int, ...]]:
    """Bags of members after each round, as lists of their numbers."""
    bag: list[int] = []
    path = []
    for _ in range(rounds):
        best = None
        for n in [*sorted(set(bag)), *sorted(set(range(members)) - set(bag))]:
            counts = tuple([*bag, n].count(each) for each in range(members))
            if best is None or score(counts) > best[0]:
                best = (score(counts), n)
        assert best is not None
        bag.append(best[1])
        path.append(tuple(bag.count(each) for each in range(members)))
    return path


@pytest.mark.parametrize("seed", range(20))
def test_the_greedy_choice_is_the_naive_one(seed: int) -> None:
    generator = np.random.default_rng(seed)
    table: dict[tuple[int, ...], float] = {}

    def score(counts: tuple[int, ...]) -> float:
        ratio = tuple(np.array(counts) // math.gcd(*counts))
        return table.setdefault(ratio, float(generator.integers(8)))  # few values: many ties

    path = naive_greedy(score, 3, rounds=4)
    best = max(map(score, path))
    counts, value = greedy_counts(score, 3, rounds=4)
    assert value == best
    assert tuple(counts) == next(counts for counts in path if score(counts) == best)


def test_the_greedy_choice_ends_after_rounds_without_a_better_one() -> None:
    asked: list[tuple[int, ...]] = []

    def score(counts: tuple[int, ...]) -> float:
        asked.append(counts)
        return float(counts == (1, 1))

    assert greedy_counts(score, 2) == ([1, 1], 1.0)
    assert len(asked) == 2 * (2 + 5)


def test_chosen_weights_are_best_on_validation_and_leave_members_out(
    both: Ensemble, folders: list[pathlib.Path]
) -> None:
    chosen = open_ensemble(folders, weights="chosen")
    assert chosen.chosen is not None
    metric, value = chosen.chosen
    assert metric == chosen.config.selection
    validation = collected(chosen, "validation")
    found = recalls(validation.video_emb, validation.music_emb, validation.gt_music_index)
    assert found[metric] == pytest.approx(value)
    for run in both.runs:
        of = collected(run, "validation")
        alone = recalls(of.video_emb, of.music_emb, of.gt_music_index)[metric]
        assert value >= alone
    assert all(member.coefficient > 0 for member in chosen.members)
    assert sum(member.coefficient for member in chosen.members) == pytest.approx(1)
    assert f"chosen by validation {metric}" in chosen.in_words()


def test_an_ensemble_folder_is_a_model(
    both: Ensemble, sent: pathlib.Path, folders: list[pathlib.Path]
) -> None:
    opened = vmr.load(sent)
    assert isinstance(opened, EnsembleModel)
    assert opened.fingerprint == both.model.fingerprint
    assert opened.widths == {"video": 192, "music": 96}
    assert opened.embedding_width == 32
    features = list(np.random.default_rng(0).normal(size=(7, 3, 192)).astype(np.float32))
    words = [str(n) for n in range(7)]
    models = [vmr.load(folder) for folder in folders]
    rows = [models[0].embed_video(features), models[1].embed_video(features, words)]
    shares = [member.coefficient for member in both.members]
    found = opened.embed_video(features, words)
    np.testing.assert_array_equal(found, concatenated(shares, rows))
    batches = [(features[:4], words[:4]), (features[4:], words[4:])]
    np.testing.assert_allclose(
        np.concatenate(list(opened.embed_batches("video", batches, 4))), found, atol=2e-6
    )
    tracks = [item[:, :96] for item in features]
    np.testing.assert_array_equal(
        opened.embed_music(tracks), concatenated(shares, [of.embed_music(tracks) for of in models])
    )
    assert opened.meta()["ensemble"] == both.meta()["ensemble"]
    card = (sent / "README.md").read_text()
    for expected in ("`member_1`", "embed_video", opened.fingerprint):
        assert expected in card
    texts = [*sent.rglob("*.json"), *sent.rglob("*.md")]
    assert len(texts) == 6
    assert not any(str(folders[0].parent) in file.read_text() for file in texts)


def test_an_ensemble_folder_is_an_ensemble_again(
    both: Ensemble, sent: pathlib.Path, rich_dir: str, folders: list[pathlib.Path]
) -> None:
    again = open_ensemble([sent], rich_dir)
    np.testing.assert_array_equal(collected(again).video_emb, collected(both).video_emb)
    assert again.meta()["ensemble"] == both.meta()["ensemble"]
    for arguments in (([sent, folders[0]], rich_dir), ([sent], rich_dir, "chosen")):
        with pytest.raises(UserError, match="is an ensemble with its own weights"):
            open_ensemble(*arguments)
    with pytest.raises(UserError, match="is an ensemble, expected the folder of a run"):
        restore_run(sent)


def test_an_ensemble_is_written_whole_or_not_at_all(
    both: Ensemble, sent: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "sent"
    shutil.copytree(sent, folder)
    ensemble_folder.write(both.model, folder)  # in place of an earlier one
    (folder / "member_0" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds member_0/notes.txt beside its ensemble"):
        ensemble_folder.write(both.model, folder)
    assert (folder / "member_0" / "notes.txt").exists()
    with pytest.raises(UserError, match="is there and holds no ensemble"):
        ensemble_folder.write(both.model, folder / "member_1")
    with pytest.raises(UserError, match="is there and holds no model"):
        model_folder.write(both.members[0].model, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["sent"]


def damaged(manifest: dict[str, Any], **changes: Any) -> str:
    return json.dumps({**manifest, **changes})


def test_a_damaged_ensemble_is_told_in_one_line(sent: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "sent"
    shutil.copytree(sent, folder)
    path = folder / "ensemble.json"
    whole = json.loads(path.read_text())
    first, second = whole["members"]
    for text, expected in (
        ("{", "cannot be read as JSON"),
        ("[]", "expected an object"),
        (damaged(whole, schema_version=2), "schema_version 2, expected 1"),
        (damaged(whole, members=[]), "expected members, each with"),
        (damaged(whole, members=[first, 3]), "expected members, each with"),
        (damaged(whole, members=[{**first, "coefficient": math.nan}]), "expected members, each"),
        (damaged(whole, members=[{**first, "coefficient": "1"}]), "expected members, each with"),
        (damaged(whole, members=[{**first, "folder": "../sent"}]), "no model folder beside it"),
        (damaged(whole, members=[{**first, "folder": "gone"}]), "no model folder beside it"),
        (damaged(whole, members=[{**first, "model": second["model"]}]), "is another model than"),
        (damaged(whole, members=[second, first]), "its members are not those"),
        (damaged(whole, members=[{**first, "coefficient": 0.5}, second]), "its members are not"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=expected):
            vmr.load(folder)
    path.write_text(json.dumps(whole))
    arrays = folder / "member_1" / "model.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"member_1/model.safetensors is no model of vmr, or damag"):
        vmr.load(folder)


def test_paths_that_are_no_members_are_named(
    folders: list[pathlib.Path], tmp_path: pathlib.Path
) -> None:
    for paths, expected in (
        ([], "has an empty path"),
        ([folders[0], ""], "has an empty path"),
        ([folders[0], folders[0]], "is there twice"),
        ([folders[0], tmp_path / "absent"], "no such folder, expected a run's or a model's"),
    ):
        with pytest.raises(UserError, match=expected):
            open_ensemble(paths)


def with_width(member: Member, width: int) -> Member:
    """A member that reads music features of another width."""
    like = member.model.trained.standardization
    music = {name: np.resize(values, width) for name, values in like["music"].items()}
    trained = dataclasses.replace(member.model.trained, standardization={**like, "music": music})
    return dataclasses.replace(member, model=dataclasses.replace(member.model, trained=trained))


def with_config(member: Member, **fields: Any) -> Member:
    config = member.model.config.copy_and_resolve_references()
    config.update_from_flattened_dict({name.replace("__", "."): v for name, v in fields.items()})
    return dataclasses.replace(member, model=dataclasses.replace(member.model, config=config))


def test_members_of_other_items_are_refused(both: Ensemble, rich_dir: str) -> None:
    first, second = both.members
    for other, expected in (
        (with_width(second, 95), "feature widths video 192, music 95 and video 192, music 96"),
        (with_config(second, pairing="music"), "config.pairing music and video_music"),
    ):
        with pytest.raises(UserError, match=expected):
            require_together([first, other])
    with pytest.raises(UserError, match=r"do not read the same text: .* 3 and 0"):
        require_together([second, with_config(second, model__text__embedding_width=3)])
    narrow = with_width(first, 95)
    with pytest.raises(UserError, match=r"reads music features of width 95, .* has 96"):
        require_features(narrow, both.dataset)


class Stand:
    """Gives what a run gives, changed."""

    def __init__(self, run: Any, change: Callable[[dict[str, np.ndarray]], dict[str, Any]]) -> None:
        self.run, self.change = run, change

    def embed(self, split: str, batch_size: int = 1000) -> Any:
        return map(self.change, self.run.embed(split, batch_size))


def test_other_ids_are_told(both: Ensemble) -> None:
    other = Stand(both.runs[0], lambda batch: {**batch, "music_id": batch["music_id"][::-1]})
    runs: Any = (both.runs[0], other)
    with pytest.raises(UserError, match=r"read other items of the split test of .*: music_id diff"):
        list(dataclasses.replace(both, runs=runs).embed("test"))
    with pytest.raises(UserError, match="read other items of the validation split"):
        weighted(both.members, runs, both.dataset, "equal")


@pytest.mark.parametrize(("value", "expected"), [(0.25, "one score"), (np.nan, "NaN or infinity")])
def test_a_collapsed_member_is_refused(both: Ensemble, value: float, expected: str) -> None:
    def collapsed(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        emb = {name: np.full_like(batch[name], value) for name in ("video_emb", "music_emb")}
        return {**batch, **emb}

    runs: Any = (both.runs[0], Stand(both.runs[1], collapsed))
    with pytest.raises(UserError, match=f"of the validation split {expected}"):
        weighted(both.members, runs, both.dataset, "equal")


def test_the_commands_take_ensembles(folders: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    flag = f"--ensemble={folders[0]},{folders[1]}"
    output, npz = tmp_path / "results.json", tmp_path / "test.npz"
    printed = succeed("experiments.evaluate", flag, "--split=test", f"--output={output}")
    assert "ensemble of 2, rows of width 32" in printed
    assert "R@10" in printed
    model = tmp_path / "model"
    flags = ("--split=test", f"--output={npz}", f"--model={model}", "--ensemble_weights=chosen")
    assert "chosen by validation" in succeed("experiments.export", flag, *flags)
    succeed("experiments.export", flag, "--split=test", f"--output={npz}")
    succeed("experiments.evaluate", f"--embeddings={npz}", f"--output={tmp_path}/again.json")
    of_runs, of_file = (
        json.loads((tmp_path / name).read_text()) for name in ("results.json", "again.json")
    )
    for way in ("v2m", "m2v", "truth", "step", "ensemble"):
        assert of_runs[way] == of_file[way]
    assert [member["name"] for member in of_runs["ensemble"]] == [of.name for of in folders[:2]]
    assert embeddings.load(npz).meta["ensemble"]
    assert isinstance(vmr.load(model), EnsembleModel)


def test_new_items_are_embedded_searched_and_shown(
    sent: pathlib.Path, folders: list[pathlib.Path], rich_dir: str, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "music").mkdir()
    frames = np.random.default_rng(0).normal(size=(5, 3, 96)).astype(np.float32)
    for n, track in enumerate(frames):
        np.save(tmp_path / f"music/{n}.npy", track)
    np.save(tmp_path / "query.npy", frames[3])
    catalogue, again = tmp_path / "catalogue.npz", tmp_path / "again.npz"
    succeed("experiments.embed", f"--model={sent}", f"--music={tmp_path}/music",
            f"--output={catalogue}")  # fmt: skip
    opened = open_collection(catalogue)
    assert opened.meta["model"] == vmr.load(sent).fingerprint
    assert [account["name"] for account in opened.meta["ensemble"]] == ["run", "run"]
    assert opened.width == 32
    flag = f"--ensemble={folders[0]},{folders[1]}"
    assert "ensemble of 2" in succeed("experiments.embed", flag, f"--music={tmp_path}/music",
                                      f"--output={again}")  # fmt: skip
    assert open_collection(again).fingerprint == opened.fingerprint
    answer = json.loads(
        succeed("experiments.search", f"--model={sent}", f"--embeddings={catalogue}",
                f"--music={tmp_path}/query.npy", "--side=music", "--top=2", "--format=json")
    )  # fmt: skip
    assert answer["hits"][0]["id"] == "3"
    assert answer["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    done = run_command("experiments.search", f"--model={folders[0]}", f"--embeddings={catalogue}",
                       f"--music={tmp_path}/query.npy", "--side=music")  # fmt: skip
    assert "expected the same model" in done.stderr
    page = tmp_path / "page"
    printed = succeed("experiments.gallery", f"--workdir={sent}", f"--data_dir={rich_dir}",
                      f"--against={folders[0]}", "--split=test", f"--output={page}")  # fmt: skip
    assert "step of each member its own" in (page / "index.html").read_text()
    assert "index.html" in printed


@pytest.mark.parametrize(
    ("module", "flags", "expected"),
    [
        ("experiments.evaluate", ["--ensemble="], "--ensemble= is empty"),
        ("experiments.export", ["--ensemble=", "--model=x"], "--ensemble= is empty"),
        ("experiments.export", ["--model=x"], "give --workdir=DIR, --ensemble=A,B or --soup=A,B"),
        ("experiments.evaluate", ["--ensemble=a,,b"], "has an empty path"),
        ("experiments.evaluate", ["--ensemble=a,b", "--segments=4"], "--segments needs --workdir"),
        (
            "experiments.evaluate",
            ["--ensemble=a", "--workdir=b"],
            "At most one of (workdir, ensemble, ",
        ),
        ("experiments.evaluate", ["--ensemble=gone"], "gone: no such folder"),
        (
            "experiments.export",
            ["--workdir=a", "--model=x", "--ensemble_weights=chosen"],
            "--ensemble_weights is of --ensemble",
        ),
    ],
)
def test_mistakes_are_one_line(module: str, flags: list[str], expected: str) -> None:
    done = run_command(module, *flags)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
