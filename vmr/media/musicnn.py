"""musicnn: a network for tagging music, here as its authors use it to make features, 753 a patch.

Pons, Serra 2019 (arXiv 1909.06654). Weights and graph are those of the authors' package: a graph of
TensorFlow 1 with the checkpoint of the Million Song Dataset. The package itself is not imported.

The feature is the maximum over time of the last convolutions (`max_pool`), from which the authors
train classifiers of other data in the paper; `patches` has the penultimate layer and the tags too.
"""

import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vmr.data.quiet_tensorflow import tf
from vmr.errors import UserError
from vmr.media.clips import clip_means
from vmr.media.extractor import package_needed
from vmr.media.samples import finite_samples

try:
    import librosa
except ModuleNotFoundError as error:
    raise package_needed("librosa", "media") from error

RATE = 16_000
WINDOW, HOP, BANDS, FRAMES = 512, 256, 96, 187  # a patch of 187 frames begins every 2.992 s
OUTPUTS = {
    "max_pool": "model/Max:0",  # 753
    "penultimate": "model/dense/BiasAdd:0",  # 200, before ReLU and batch norm
    "tags": "model/Sigmoid:0",  # 50 probabilities
}
_BATCH = 8  # patches; an hour of sound takes no more memory than half a minute


def load(side: str, file: str) -> "Musicnn":
    """Loads the authors' network.

    Raises:
      UserError: their package, or librosa, is not installed.
    """
    del side, file
    found = find_spec("musicnn")
    folders = (found and found.submodule_search_locations) or [""]
    checkpoint = Path(folders[0], "MSD_musicnn")
    if not (checkpoint / ".meta").is_file():
        raise UserError("musicnn is not installed: pip install --no-deps musicnn==0.1.0")
    return Musicnn(checkpoint)


class Musicnn:
    """Network over patches of 3 s, a `SoundExtractor`.

    TensorFlow takes half of the time with `TF_ENABLE_ONEDNN_OPTS=1` in the environment.
    """

    rate = RATE
    width = 753

    def __init__(self, checkpoint: Path) -> None:
        """Reads graph and weights of a folder of the authors' package."""
        weights = checkpoint / ".data-00000-of-00001"
        self.account = {
            "name": "musicnn",
            "version": "0.1.0",
            "licence": "ISC",
            "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "width": self.width,
        }
        self._forward = _forward(checkpoint)

    def whole(self, samples: np.ndarray) -> np.ndarray:
        """Mean feature of the patches of a sound: (n,) at 16 kHz -> (753,) float32.

        Raises:
          UserError: there are no samples, or not all are finite.
        """
        return self.patches(samples)["max_pool"].mean(axis=0, dtype=np.float64).astype(np.float32)

    def clips(self, samples: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Mean feature of the patches that begin in each clip: (n,), (T, 2) -> (T, 753) float32.

        See `clip_means`: a clip in which none begins has the patch before it.

        Raises:
          UserError: there are no samples, or not all are finite.
        """
        rows = self.patches(samples)["max_pool"]
        return clip_means(rows, np.arange(len(rows)) * FRAMES * HOP / RATE, bounds)

    def patches(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """All `OUTPUTS` of each patch, (n,) -> (patches, width) each.

        Patches do not overlap. As the authors do, what is left at the end is dropped; sound shorter
        than a patch has zeros at its end.
        """
        samples = finite_samples(samples)
        least = (FRAMES - 1) * HOP
        rest = max(0, least - len(samples))
        padded = np.pad(samples, (WINDOW // 2, WINDOW // 2 + rest))  # frames are centred
        count = (1 + (len(padded) - WINDOW) // HOP) // FRAMES
        outputs = []
        for start in range(0, count, _BATCH):
            stop = min(start + _BATCH, count)
            stretch = padded[start * FRAMES * HOP : (stop * FRAMES - 1) * HOP + WINDOW]
            spectrogram = _log_mel(stretch).reshape(-1, FRAMES, BANDS)
            outputs.append([each.numpy() for each in self._forward(tf.constant(spectrogram))])
        rows = (np.concatenate(each).reshape(count, -1) for each in zip(*outputs, strict=True))
        return dict(zip(OUTPUTS, rows, strict=True))


def _log_mel(samples: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=BANDS, center=False
    )
    # The authors round to float16. Their product with 10,000 would be infinite in float16, and so
    # would be the mel of sound far louder than [-1, 1].
    rounded = np.minimum(mel.T, np.finfo(np.float16).max).astype(np.float16)
    return np.log10(1 + 10_000 * rounded.astype(np.float32))


def _forward(checkpoint: Path) -> Callable[[tf.Tensor], list[tf.Tensor]]:
    """The graph from patches (b, 187, 96) to `OUTPUTS`, its variables replaced by their values."""
    meta = tf.compat.v1.MetaGraphDef.FromString((checkpoint / ".meta").read_bytes())
    graph = _without_training(meta.graph_def)
    # The checkpoint's files have no name but a suffix.
    reader = tf.compat.v1.train.NewCheckpointReader(f"{checkpoint}/")

    def forward(patches: tf.Tensor) -> list[tf.Tensor]:
        inputs = {"model/Placeholder:0": patches, "model/Placeholder_2:0": tf.constant(False)}
        for node in graph.node:
            if node.op == "VariableV2":
                inputs[f"{node.name}/read:0"] = tf.constant(reader.get_tensor(node.name))
        return tf.graph_util.import_graph_def(
            graph, inputs, return_elements=[*OUTPUTS.values()], name=""
        )

    patches = tf.TensorSpec([None, FRAMES, BANDS], tf.float32)
    return tf.compat.v1.wrap_function(forward, [patches])


def _without_training(graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """The nodes on which `OUTPUTS` depend: TensorFlow 2 refuses the gradients."""
    nodes = {node.name: node for node in graph.node}
    needed: set[str] = set()
    names = list(OUTPUTS.values())
    while names:
        name = names.pop().removeprefix("^").partition(":")[0]
        if name not in needed:
            needed.add(name)
            names += nodes[name].input
    forward = [node for node in graph.node if node.name in needed]
    return tf.compat.v1.GraphDef(node=forward, versions=graph.versions)
