"""`onnx:FILE`: tiny networks against NumPy, options and networks that do not fit, one line each."""

import json
import os
import pathlib
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tools.bench.pictures import write_onnx
from vmr.data.accounts import checked_accounts
from vmr.errors import UserError
from vmr.media.efficientnet_lite0 import folded, read_weights, weights_file
from vmr.media.extractor import load_extractor
from vmr.media.recipe import Recipe

PICTURES = {
    "size": 6,
    "value_range": [-1, 1],
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 1, 2],
    "colours": "RGB",
    "layout": "NCHW",
    "output": "features",
}
SOUND = {
    "sample_rate": 1000,
    "window_seconds": 0.1,
    "hop_seconds": 0.05,
    "layout": "[1,n]",
    "output": "features",
}


def write_network(path, shape, axes, dtype=TensorProto.FLOAT, outputs=("features",), **changes):
    """Mean and maximum over `axes`, laid side by side; as `features`, and under other names."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("ReduceMax", ["x"], ["max"], axes=axes, keepdims=0),
        helper.make_node("Concat", ["mean", "max"], ["both"], axis=-1),
        *(helper.make_node("Identity", ["both"], [name]) for name in outputs),
    ]
    save(path, nodes, {"x": (dtype, shape)}, dict.fromkeys(outputs, dtype), **changes)


def save(path, nodes, inputs, outputs, constants=(), **options):
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, *each) for name, each in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path, **options)


def write_options(path: pathlib.Path, options: dict) -> None:
    path.with_name(f"{path.name}.json").write_text(json.dumps(options))


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    return tmp_path / "net.onnx"


@pytest.fixture
def pictures(path):
    write_network(path, ["b", 3, 6, 6], [2, 3])
    write_options(path, PICTURES)
    return path


@pytest.fixture
def sound(path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["x"], ["max"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["mean", "max"], ["features"], axis=1),
    ]
    save(path, nodes, {"x": (TensorProto.FLOAT, ["b", 100])}, {"features": TensorProto.FLOAT})
    write_options(path, SOUND)
    return path


def random_pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), np.uint8)


@pytest.mark.parametrize("batch", ["b", None, 1])
@pytest.mark.parametrize("colours", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pictures(path, batch, colours, layout):
    shape, axes = ([batch, 3, 6, 6], [2, 3]) if layout == "NCHW" else ([batch, 6, 6, 3], [1, 2])
    write_network(path, shape, axes)
    write_options(path, PICTURES | {"colours": colours, "layout": layout})
    extractor = load_extractor("video", f"onnx:{path}")
    assert (extractor.size, extractor.width) == (6, 6)
    given = random_pictures(19)
    colour = given[..., ::-1] if colours == "BGR" else given
    values = (colour / 255 * 2 - 1 - PICTURES["mean"]) / PICTURES["std"]
    features = extractor(given)
    assert features.dtype == np.float32
    expected = np.concatenate([values.mean((1, 2)), values.max((1, 2))], axis=1)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_a_real_network_has_its_golden_features(path):
    write_onnx(folded(read_weights(weights_file())), path)
    y, x, c = np.mgrid[:224, :224, :3]
    picture = ((x * (c + 1) + y * (3 - c) + x * y // 16) % 256).astype(np.uint8)
    features = load_extractor("video", f"onnx:{path}")(np.stack([picture] * 2))
    assert features.shape == (2, 1280)
    first = [0.563113, 0.019431, 0, 0, 0, 0, 0.102106, 3.568181]
    np.testing.assert_allclose(features[:, :8], [first, first], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 24.88714, atol=1e-4)


def test_half_precision(path):
    write_network(path, ["b", 3, 6, 6], [2, 3], TensorProto.FLOAT16)
    write_options(path, PICTURES)
    given = random_pictures(2)
    features = load_extractor("video", f"onnx:{path}")(given)
    assert features.dtype == np.float32
    values = (given / 255 * 2 - 1 - PICTURES["mean"]) / PICTURES["std"]
    np.testing.assert_allclose(features[:, :3], values.mean((1, 2)), atol=2e-3)


def windows_of(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and maximum of each window of 100 samples, every 50, and when it begins."""
    rows, times, start = [], [], 0
    while start == 0 or start + 50 <= len(samples):
        window = np.zeros(100)
        part = samples[start : start + 100]
        window[: len(part)] = part
        rows.append([window.mean(), window.max()])
        times.append(start / 1000)
        start += 50
    return np.array(rows), np.array(times)


@pytest.mark.parametrize("length", [1, 49, 50, 99, 100, 101, 149, 150, 151, 1234])
def test_windows_of_sound(sound, length):
    extractor = load_extractor("music", f"onnx:{sound}")
    assert (extractor.rate, extractor.width) == (1000, 2)
    samples = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    rows, times = windows_of(samples)
    whole = extractor.whole(samples)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, rows.mean(axis=0), rtol=1e-5, atol=1e-6)
    bounds = np.array([[0, 0.2], [0.2, max(0.4, length / 1000)]])
    first = rows[times < 0.2]
    second = rows[times >= 0.2] if (times >= 0.2).any() else first[-1:]
    np.testing.assert_allclose(
        extractor.clips(samples, bounds),
        [first.mean(axis=0), second.mean(axis=0)],
        rtol=1e-5,
        atol=1e-6,
    )


def test_sound_without_a_batch(path, sound):
    samples = np.random.default_rng(0).uniform(-1, 1, 777).astype(np.float32)
    expected = load_extractor("music", f"onnx:{path}").whole(samples)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("ReduceMax", ["x"], ["max"], axes=[0], keepdims=1),
        helper.make_node("Concat", ["mean", "max"], ["features"], axis=0),
    ]
    save(path, nodes, {"x": (TensorProto.FLOAT, ["n"])}, {"features": TensorProto.FLOAT})
    write_options(path, SOUND | {"layout": "[n]"})
    extractor = load_extractor("music", f"onnx:{path}")
    np.testing.assert_array_equal(extractor.whole(samples), expected)


def test_account_has_what_decides(pictures):
    def account(**change):
        write_options(pictures, PICTURES | change)
        return dict(load_extractor("video", f"onnx:{pictures}").account)

    plain = account()
    assert {key: plain[key] for key in ("name", "version", "licence", "width")} == {
        "name": "onnx:net.onnx",
        "version": None,
        "licence": None,
        "width": 6,
    }
    checked_accounts({"video": Recipe("video", f"onnx:{pictures}").account()}, "extraction.json")
    described = account(version="2", licence="MIT")
    assert described == plain | {"version": "2", "licence": "MIT"}
    assert account(std=[0.5, 1.0, 2.0]) == plain
    assert account(mean=[0.1, 0.2, 0.4])["sha256"] != plain["sha256"]
    model = onnx.load(pictures)
    model.doc_string = "another"
    onnx.save(model, pictures)
    assert account()["sha256"] != plain["sha256"]


def test_account_has_weights_in_another_file(path):
    def account(value):
        weight = onnx.numpy_helper.from_array(np.full((1, 3, 6, 6), value, np.float32), "w")
        nodes = [
            helper.make_node("Mul", ["x", "w"], ["y"]),
            helper.make_node("ReduceMean", ["y"], ["features"], axes=[2, 3], keepdims=0),
        ]
        beside = path.parent / "net.onnx.data"
        beside.unlink(missing_ok=True)
        options = {"save_as_external_data": True, "location": beside.name, "size_threshold": 0}
        inputs = {"x": (TensorProto.FLOAT, ["b", 3, 6, 6])}
        save(path, nodes, inputs, {"features": TensorProto.FLOAT}, [weight], **options)
        assert beside.exists()
        return load_extractor("video", f"onnx:{path}").account

    write_options(path, PICTURES)
    assert account(1.0) == account(1.0)
    assert account(1.0)["sha256"] != account(2.0)["sha256"]


MISTAKES = [
    ("size", "6", 'size is "6"; expected a whole number from 1 to 4,096'),
    ("size", True, "size is true; expected a whole number"),
    ("size", 0, "size is 0; expected"),
    ("size", None, "size is null; expected"),
    ("value_range", [1, 0], "value_range is [1, 0]; expected two numbers, the lower first"),
    ("value_range", 255, "value_range is 255; expected"),
    ("mean", [1, 2], "mean is [1, 2]; expected three numbers"),
    ("mean", [1, 2, float("nan")], "mean is [1, 2, NaN]; expected three numbers"),
    ("mean", [1, 2, 10**400], "mean is [1, 2, 1000"),
    ("mean", [1, 2, True], "mean is [1, 2, true]; expected three numbers"),
    ("std", [1, 0, 1], "std is [1, 0, 1]; expected three numbers above 0"),
    ("colours", "rgb", 'colours is "rgb"; expected "RGB" or "BGR"'),
    ("layout", ["NCHW"], 'layout is ["NCHW"]; expected "NCHW" or "NHWC"'),
    ("output", "", 'output is ""; expected a text'),
    ("version", 1, "version is 1; expected a text"),
    ("licence", "", 'licence is ""; expected a text'),
    ("sizes", 6, "unknown key 'sizes'; expected size, value_range, mean"),
    ("sample_rate", 6, "unknown key 'sample_rate'; expected size, value_range, mean"),
]


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES)
def test_a_wrong_option_is_one_line(pictures, key, value, message):
    write_options(pictures, PICTURES | {key: value})
    assert message in refused("video", pictures, f"{pictures}.json: ")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sample_rate", 44100.5, "sample_rate is 44100.5; expected a whole number from 1,000"),
        ("sample_rate", 0, "sample_rate is 0; expected"),
        ("window_seconds", 0, "window_seconds is 0; expected seconds, from 0.001 to 3,600"),
        ("hop_seconds", -1.0, "hop_seconds is -1.0; expected seconds"),
        ("hop_seconds", float("inf"), "hop_seconds is Infinity; expected seconds"),
        ("layout", "NCHW", 'layout is "NCHW"; expected "[n]" or "[1,n]"'),
    ],
)
def test_a_wrong_option_of_sound_is_one_line(sound, key, value, message):
    write_options(sound, SOUND | {key: value})
    assert message in refused("music", sound, f"{sound}.json: ")


@pytest.mark.parametrize("key", PICTURES)
def test_a_missing_option_is_one_line(pictures, key):
    write_options(pictures, {name: value for name, value in PICTURES.items() if name != key})
    assert f"{key} is missing; expected " in refused("video", pictures, f"{pictures}.json: ")


def refused(side: str, path: pathlib.Path, start: str) -> str:
    with pytest.raises(UserError) as raised:
        load_extractor(side, f"onnx:{path}")
    assert str(raised.value).startswith(start)
    return str(raised.value)


def test_json_that_is_none_or_not_there_is_one_line(pictures):
    options = pathlib.Path(f"{pictures}.json")
    for text in ("", "{", "[1]", "\udcff"):
        options.write_bytes(text.encode(errors="surrogateescape"))
        refused("video", pictures, f"{options} ")
    options.unlink()
    assert "does not exist; expected JSON of size" in refused("video", pictures, f"{options}: ")


def test_a_file_that_is_no_network_is_one_line(pictures):
    whole = pictures.read_bytes()
    for content in (b"", b"not a network", whole[: len(whole) // 2]):
        pictures.write_bytes(content)
        assert "onnxruntime cannot load it: " in refused("video", pictures, f"{pictures}: ")
    assert "is a folder" in refused("video", pictures.parent, f"{pictures.parent}: ")
    pictures.unlink()
    assert "does not exist" in refused("video", pictures, f"{pictures}: ")


@pytest.mark.parametrize(
    "shape",
    [["b", 3, 7, 6], ["b", 6, 6, 3], [8, 3, 6, 6], ["b", 1, 6, 6], ["b", 3, 6, 6, 1]],
)
def test_another_input_is_one_line(pictures, shape):
    write_network(pictures, shape, [-1])
    message = refused("video", pictures, f"{pictures}: input 'x' is tensor(float) of [")
    assert message.endswith("expected float or float16 of [1, 3, 6, 6], as net.onnx.json says")


def test_an_input_of_bytes_is_one_line(pictures):
    nodes = [
        helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["y"], ["features"], axes=[2, 3], keepdims=0),
    ]
    inputs = {"x": (TensorProto.UINT8, ["b", 3, 6, 6])}
    save(pictures, nodes, inputs, {"features": TensorProto.FLOAT})
    assert "input 'x' is tensor(uint8)" in refused("video", pictures, f"{pictures}: ")


def test_two_inputs_are_one_line(pictures):
    nodes = [
        helper.make_node("Add", ["x", "z"], ["y"]),
        helper.make_node("ReduceMean", ["y"], ["features"], axes=[2, 3], keepdims=0),
    ]
    each = TensorProto.FLOAT, ["b", 3, 6, 6]
    save(pictures, nodes, {"x": each, "z": each}, {"features": TensorProto.FLOAT})
    assert "2 inputs 'x', 'z'; expected one" in refused("video", pictures, f"{pictures}: ")


def test_another_output_is_one_line(pictures):
    write_network(pictures, ["b", 3, 6, 6], [2, 3], outputs=("logits", "pooled"))
    message = refused("video", pictures, f"{pictures}: ")
    assert (
        "outputs 'logits' of tensor(float), 'pooled' of tensor(float); expected 'featur" in message
    )
    write_network(pictures, ["b", 3, 6, 6], [3])  # a row of each line of a picture
    message = refused("video", pictures, f"{pictures}: ")
    assert (
        "output 'features' is [2, 3, 12] for an input of [2, 3, 6, 6]; expected [2, D]" in message
    )


def one_row_of_any(path):
    """Takes any number of pictures, as it declares, and gives one row of all."""
    write_network(path, ["b", 3, 6, 6], [0, 2, 3])


def only_one(path):
    """Declares any number of pictures, and has one written into it."""
    shape = onnx.numpy_helper.from_array(np.array([1, 108]), "shape")
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["features"])]
    inputs = {"x": (TensorProto.FLOAT, ["b", 3, 6, 6])}
    save(path, nodes, inputs, {"features": TensorProto.FLOAT}, [shape])


@pytest.mark.parametrize(
    ("network", "message"),
    [(one_row_of_any, "is [6] for an input of [2, 3"), (only_one, "fails on an input of [2, 3,")],
)
def test_a_batch_that_is_declared_and_not_kept_is_one_line(pictures, network, message, capfd):
    network(pictures)
    assert message in refused("video", pictures, f"{pictures}: ")
    assert capfd.readouterr() == ("", "")


def test_features_that_are_not_finite_are_one_line(pictures):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Log", ["mean"], ["features"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, ["b", 3, 6, 6])}
    save(pictures, nodes, inputs, {"features": TensorProto.FLOAT})
    extractor = load_extractor("video", f"onnx:{pictures}")
    given = np.full((20, 6, 6, 3), 255, np.uint8)
    assert np.isfinite(extractor(given)).all()
    given[[7, 11]] = 0
    with pytest.raises(
        UserError, match=r"net\.onnx: NaN or infinity in output 'features' of 2 of 20"
    ):
        extractor(given)


def test_onnxruntime_that_is_not_installed_is_named(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install -e '.[onnx]'" in refused("video", pictures, "onnxruntime is not installed")


@pytest.mark.parametrize("threads", ["1", "", "2,1"])
def test_threads_of_the_environment(pictures, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    extractor = load_extractor("video", f"onnx:{pictures}")
    settings = extractor._network._session.get_session_options()
    assert settings.intra_op_num_threads == (1 if threads == "1" else 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_one_line(pictures):
    pictures.chmod(0)
    refused("video", pictures, f"{pictures}: ")
