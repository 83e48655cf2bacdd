"""`experiments.embed` with a trained model, as a user types it."""

import pathlib

import numpy as np
import pytest
from front_doors import run, succeed

import vmr
from vmr.arrays import unit_rows
from vmr.collection import open_collection

RUN = pathlib.Path(__file__).parents[1] / "training/formats/run"


@pytest.fixture(scope="module")
def model() -> "vmr.runs.model.Model":  # type: ignore[name-defined]
    return vmr.load(RUN)


@pytest.mark.parametrize("name", ["out", "out.npz"])
def test_tracks_are_embedded_as_the_model_embeds_them(
    model: "vmr.runs.model.Model",  # type: ignore[name-defined]
    name: str,
    tmp_path: pathlib.Path,
) -> None:
    rows = unit_rows(np.random.default_rng(0).normal(size=(11, model.widths["music"])))
    (tmp_path / "music").mkdir()
    for n, row in enumerate(rows):
        np.save(tmp_path / f"music/{n:02d}.npy", row)
    flags = [f"--model={RUN}", f"--music={tmp_path}/music", f"--output={tmp_path}/{name}"]
    flags += ["--batch_size=4", "--part_items=5"]
    printed = succeed("experiments.embed", *flags)
    assert printed == (
        f"{tmp_path}/music: 11 music items\nembeddings written to {tmp_path}/{name}\n"
    )
    found = open_collection(tmp_path / name)
    assert found.ids.tolist() == [f"{n:02d}" for n in range(11)]
    assert found.meta["model"] == model.fingerprint
    np.testing.assert_allclose(
        found.rows(np.arange(11)), model.embed_music(rows), rtol=1e-5, atol=1e-6
    )
    assert "are there already" in succeed("experiments.embed", *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--music=M", "--output=O"], "--model is required"),
        (["--model=R", "--music=M"], "--output is required"),
        (["--model=R", "--output=O"], "give one of --music=SOURCE and --video=SOURCE"),
        (["--model=R", "--music=M", "--video=M", "--output=O"], "give one of --music=SOURCE"),
        (["--model=R", "--music=", "--output=O"], "--music= is empty"),
        (["--model=R", "--music=M", "--output="], "--output= is empty"),
        (["--model=", "--music=M", "--output=O"], "--model= is empty"),
        (["--model=nowhere", "--music=M", "--output=O"], "nowhere"),
        (["--model=R", "--music=M", "--output=O", "--part_items=0"], "part_items"),
        (["--model=R", "--music=M", "--output=O"], "M does not exist, expected a folder or an npz"),
        (["--model=R", "--video=M", "--output=O", "--text=x.csv"], "reads no text beside video"),
    ],
)
def test_a_mistake_is_one_line_and_makes_nothing(
    flags: list[str], message: str, tmp_path: pathlib.Path
) -> None:
    paths = {"=R": f"={RUN}", "=M": f"={tmp_path}/M", "=O": f"={tmp_path}/O"}
    given = [next((f.replace(k, v) for k, v in paths.items() if f.endswith(k)), f) for f in flags]
    done = run("experiments.embed", *given)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
