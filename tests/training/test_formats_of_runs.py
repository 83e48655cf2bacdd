"""A run of an earlier version, as it was written then, opens and goes on."""

import json
import pathlib
import shutil

from vmr.training.build import abstract_state
from vmr.training.checkpoints import Checkpoints, checksum_of_arrays
from vmr.training.log import whole_lines
from vmr.training.progress import is_finished
from vmr.training.run_dir import latest_step, require_same_data, saved_config

# VM-NET of widths 2 and 4 on planted vectors, two steps, before there was `config.evals`.
KEPT = pathlib.Path(__file__).parent / "formats" / "run"
WIDTHS = {"video": 4, "music": 3}


def test_a_run_of_before_opens(tmp_path: pathlib.Path) -> None:
    workdir = tmp_path / "run"
    shutil.copytree(KEPT, workdir)
    saved = json.loads((workdir / "config.json").read_text())
    config = saved_config(workdir)
    assert list(config.evals) == ["recalls"]
    assert config.loss.weights.m2v == saved["loss"]["weights"]["m2v"]
    require_same_data(workdir, "the fingerprint of its data")
    assert is_finished(workdir)
    assert latest_step(workdir) == 2
    assert [line["step"] for line in whole_lines(workdir / "metrics.jsonl")] == [1, 2]
    with Checkpoints(workdir, config.selection) as checkpoints:
        assert (checkpoints.latest_step, checkpoints.best_step) == (2, 1)
        state = checkpoints.restore_latest(abstract_state(config, WIDTHS))
    assert int(state.step) == 2
    # The sum of what was saved: names, shapes, types and bytes of all arrays are those of then.
    assert checksum_of_arrays(state) == json.loads((KEPT / "checksum.json").read_text())
