"""EfficientNet-Lite0: golden values, real pictures, TensorFlow against Flax, damaged weights."""

import os
import pathlib
import pickle
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from vmr.errors import UserError
from vmr.media import efficientnet_lite0
from vmr.media.efficientnet_lite0 import folded, in_flax, read_weights, weights_file
from vmr.media.extractor import PictureExtractor, load_extractor

sklearn_datasets = pytest.importorskip("sklearn.datasets")


@pytest.fixture(scope="module")
def extractor() -> PictureExtractor:
    return load_extractor("video", "efficientnet_lite0")


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return read_weights(weights_file())


def golden_picture() -> np.ndarray:
    y, x, c = np.mgrid[:224, :224, :3]
    return ((x * (c + 1) + y * (3 - c) + x * y // 16) % 256).astype(np.uint8)


def logits(features: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    return features @ weights["_fc.weight"].T + weights["_fc.bias"]


def test_golden_features_and_logits(extractor, weights):
    features = extractor(golden_picture()[None])
    assert features.shape == (1, extractor.width)
    assert features.dtype == np.float32
    first = [0.563113, 0.019431, 0, 0, 0, 0, 0.102106, 3.568181]
    np.testing.assert_allclose(features[0, :8], first, atol=1e-4)
    np.testing.assert_allclose(features.sum(), 314.3119, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(features), 24.88714, atol=1e-4)
    np.testing.assert_allclose(features.max(), 4.83626, atol=1e-4)
    assert features.argmax() == 405
    scores = logits(features, weights)[0]
    np.testing.assert_array_equal(scores.argsort()[:-4:-1], [506, 522, 971])
    np.testing.assert_allclose(scores[[506, 522, 971]], [13.9873, 7.5587, 5.7656], atol=1e-4)


SAMPLES = pathlib.Path(sklearn_datasets.__file__).parent / "images"
PICTURES = {  # and their classes in ImageNet's order
    SAMPLES / "china.jpg": 698,  # palace
    SAMPLES / "flower.jpg": 985,  # daisy
    pathlib.Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg": 652,  # uniform
}


def test_real_pictures_have_the_right_classes(extractor, weights):
    shown = np.stack([square(Image.open(file)) for file in PICTURES])
    assert logits(extractor(shown), weights).argmax(axis=1).tolist() == list(PICTURES.values())


def square(picture: Image.Image) -> np.ndarray:
    """The middle of a picture, (224, 224, 3)."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = left, top, left + side, top + side
    return np.asarray(picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC, box))


def test_features_do_not_depend_on_the_batch(extractor):
    pictures = np.random.default_rng(0).integers(0, 256, (11, 224, 224, 3), np.uint8)
    together = extractor(pictures)
    assert together.shape == (11, 1280)
    np.testing.assert_allclose(together[9:], extractor(pictures[9:]), rtol=1e-4, atol=1e-5)


def test_flax_has_the_same_numbers(extractor, weights):
    pictures = np.stack([golden_picture(), golden_picture()[::-1], golden_picture() // 2])
    ours = extractor(pictures)
    features = in_flax(folded(weights))(pictures)  # three pictures, padded to four
    assert features.shape == ours.shape
    np.testing.assert_allclose(features, ours, rtol=1e-4, atol=1e-5)


def test_an_accelerator_runs_flax(monkeypatch, weights):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setattr(efficientnet_lite0, "in_flax", lambda _: lambda x: np.full((len(x), 1), 7))
    assert (load_extractor("video", "efficientnet_lite0")(np.zeros((70, 1)))).shape == (70, 1)


def test_account_tells_the_weights(extractor):
    assert extractor.account == {
        "name": "efficientnet_lite0",
        "version": "0.1.0",
        "licence": "Apache-2.0",
        "width": 1280,
        "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    }


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"no_such_package is not installed: pip install .*media"):
        load_extractor("video", "efficientnet_lite0")


FIRST_SHAPE = b"K K\x03K\x03K\x03t"  # (32, 3, 3, 3)
DAMAGES = {
    "empty": (lambda whole: b"", "Ran out of input"),
    "text": (lambda whole: b"not found", "torch.save"),
    "another pickle": (lambda whole: pickle.dumps([1, 2]), "torch.save"),
    "a zip": (lambda whole: b"PK\x03\x04" + bytes(99), "torch.save"),
    "cut in its names": (lambda whole: whole[:20_000], "truncated"),
    "cut in its numbers": (
        lambda whole: whole[:-1],
        "ends early or is damaged at 18,826,031 bytes",
    ),
    "without the last numbers": (lambda whole: whole[:10_000_000], "ends early"),
    "hostile": (
        lambda whole: whole.replace(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cposix\nsystem\n"),
        "posix.system in it is no tensor's",
    ),
    "hostile in its header": (lambda whole: pickle.dumps(print), "builtins.print in it"),
    "of half precision": (
        lambda whole: whole.replace(b"FloatStorage", b"HalfStorage"),
        "torch.HalfStorage in it is no tensor's",
    ),
    "a tensor beyond its storage": (
        lambda whole: whole.replace(FIRST_SHAPE, b"K!" + FIRST_SHAPE[2:], 1),
        "strides is incompatible",
    ),
    "another network's": (
        lambda whole: whole.replace(FIRST_SHAPE, b"K\x1f" + FIRST_SHAPE[2:], 1),
        "296 tensors of 4694046 numbers; expected the 296 of EfficientNet-Lite0, 4694073 numbers",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_one_line(tmp_path, damage):
    change, message = DAMAGES[damage]
    file = tmp_path / "weights.pth"
    file.write_bytes(change(weights_file().read_bytes()))
    with pytest.raises(UserError) as raised:
        read_weights(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_weights_that_are_not_there_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth.*No such file"):
        read_weights(tmp_path / "nowhere.pth")


@pytest.mark.slow
def test_a_worker_is_quiet_and_keeps_to_one_core():
    code = (
        "import numpy, time\n"
        "from vmr.media.extractor import load_extractor\n"
        "extractor = load_extractor('video', 'efficientnet_lite0')\n"
        "pictures = numpy.zeros((8, 224, 224, 3), numpy.uint8)\n"
        "extractor(pictures)\n"
        "start, cpu = time.perf_counter(), time.process_time()\n"
        "for _ in range(4): extractor(pictures)\n"
        "print((time.process_time() - cpu) / (time.perf_counter() - start))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    assert float(ran.stdout) < 1.2
