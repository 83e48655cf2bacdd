"""Embeddings of one modality of a run's own dataset are those of its exported pairs."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from runs import Trained

import vmr
from vmr import embeddings
from vmr.collection import open_collection
from vmr.retrieval.embed import embed, source_for
from vmr.runs.restore import restore_run


# One of the mean of a sequence, one that samples clips and reads text.
@pytest.mark.parametrize("name", ["vmnet:runlocal", "ii_clvtm:runlocal"])
def test_one_modality_of_a_dataset_is_embedded_as_in_its_pairs(
    name: str, run_of: Callable[[str], Trained], rich_dir: str, tmp_path: pathlib.Path
) -> None:
    workdir = run_of(name).workdir
    run, model = restore_run(workdir), vmr.load(workdir)
    of_pairs = embeddings.collect(run.embed("test"), "test", run.meta())
    for side in ("video", "music"):
        source = source_for(model, rich_dir, side, "test")
        assert embed(model, source, tmp_path / side, batch_size=5, part_items=7)
        found = open_collection(tmp_path / side)
        assert found.ids.tolist() == getattr(of_pairs, f"{side}_ids").tolist()
        np.testing.assert_allclose(
            np.concatenate(found.parts), getattr(of_pairs, f"{side}_emb"), rtol=1e-4, atol=1e-5
        )
    assert (found.meta["split"], found.meta["model"]) == ("test", model.fingerprint)
