"""The benchmark of an accelerator: without TensorFlow, one failure a line, losses as in NumPy."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from tools.bench import accelerator, device_losses, device_steps, sections
from tools.bench.numpy_losses import IN_NUMPY
from tools.bench.peers import LOSSES, Problem, random_batch
from tools.bench.sections import Bench, Rows
from vmr.losses.pairs import Pairs

# Refuses what a machine with JAX, Flax and Optax alone lacks.
BLOCKER = """
import sys

class Blocker:
    ABSENT = ("tensorflow", "tensorflow_datasets", "clu", "matplotlib", "ml_collections", "orbax",
              "torch", "tqdm", "tensorboard")

    def find_spec(self, name, path=None, target=None):
        # JAX and Flax ask for TensorFlow and Orbax themselves, and do without.
        if name.split(".")[0] in self.ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def without_the_rest(program: str, seconds: float) -> str:
    """Standard output of a program where those modules are not to be had."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER + program],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_losses_encoders_and_the_step_need_no_tensorflow() -> None:
    modules = "vmr.losses.objective, vmr.encoders.two_tower, vmr.training.step, vmr.training.state"
    without_the_rest(f"import vmr.losses, vmr.encoders, {modules}, tools.bench.accelerator", 120)


@pytest.mark.slow
def test_small(tmp_path: object) -> None:
    page = f"{tmp_path}/page.md"
    text = without_the_rest(
        f"sys.argv = ['accelerator', '--small', '--output={page}']\n"
        "import runpy\nrunpy.run_module('tools.bench.accelerator', run_name='__main__')",
        600,
    )
    assert "failed" not in text
    assert text.count("### ") == len(accelerator.SECTIONS)
    with open(page, encoding="utf-8") as file:
        assert text.endswith(f"\n{file.read()}")
    for row in (
        "| rkd_distance | 48 |",
        "| ii_clvm | 16 |",
        "| device | 1,000 | 50 |",
        "| host | 1,000 | 50 |",
        "| 2,000² |",
        "| ii_mse | 64 | naive |",
    ):
        assert row in text


@pytest.mark.parametrize("name", ["crossclr", "structure", "vmnet", "ii_kl", "js", "rkd_distance"])
def test_losses_in_numpy(name: str) -> None:
    batch = random_batch(Problem(24, 8, 12))
    rows = jax.device_get(jax.jit(LOSSES[name].by_rows)(Pairs(*batch)))
    results = {"fused": rows, "rows": rows}
    value, _, slope, *_ = device_losses.errors(LOSSES[name], IN_NUMPY[name], batch, results)
    assert float(value) < 1e-5
    assert float(slope) < 1e-4


def test_an_epoch_takes_the_same_steps_from_the_device_and_from_the_host() -> None:
    bench, features = Bench(1.0, True), device_steps._features(60)
    batches = np.random.default_rng(0).permutation(60).reshape(3, 1, 20).astype(np.int32)
    ends = []
    for place in ("device", "host"):
        take, state = device_steps._epoch_step(bench, place, 20)
        state, seconds = device_steps._taken(take, state, batches, features)
        assert int(state.step) == 3
        assert seconds > 0
        ends.append(jax.device_get(state.params))
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_an_epoch_ends_at_a_loss_that_is_not_finite() -> None:
    losses = iter([1.0, np.nan, 2.0, 3.0])
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        device_steps._taken(
            lambda state, numbers, features: (state, {"loss": next(losses)}), None, np.ones(4), {}
        )
    assert next(losses) == 3.0  # looked at while the next step runs


def test_a_failure_is_a_line_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(bench: Bench) -> Rows:
        """Breaks."""
        yield "a", "b"
        yield "1", "2"
        raise ValueError("of two\nlines")

    def late(bench: Bench) -> Rows:
        """Finds no time."""
        yield ("c",)
        bench.deadline = 0.0
        bench.require_time()

    def whole(bench: Bench) -> Rows:
        """Goes on."""
        yield "d", "e"
        yield from sections.guarded_rows(bench, "parts", broken)

    pages: list[str] = []
    sections.report(Bench(1.0, True), (broken, late, whole), pages.append)
    assert len(pages) == 3
    assert "| a | b |\n|---|---:|\n| 1 | 2 |\n\nfailed: ValueError: of two lines; 0 s" in pages[0]
    assert "stopped: no time left (--minutes); 0 s" in pages[1]
    assert "| parts | failed: ValueError: of two lines |\n\n0 s" in pages[2]
    assert capsys.readouterr().out.count("failed: ") == 2


def test_shares_and_memory() -> None:
    bench = Bench(1.0, True)
    assert bench.share(1.0, 1.0, "bytes") == "?"
    bench.rates["bytes"] = 10.0
    assert bench.share(4.0, 2.0, "bytes") == "20 %"
    x = np.ones((4, 4), np.float32)
    compiled = jax.jit(lambda x: x @ x).lower(x).compile()
    assert sections.seconds_of(compiled, x) > 0
    bench.require_memory(compiled)
