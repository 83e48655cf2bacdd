"""Contenders of the benchmarks of losses: our losses and the usual alternatives.

A form is prepared for one `Problem`: value and gradient of a loss at the embeddings of one random
batch. The naive forms in JAX are written as they usually are: N × N matrices held whole, autodiff.
TensorFlow and torch are imported only by their own forms.
"""

import functools
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from tools.bench.ceilings import TOP_K
from tools.bench.paired import Prepared, peak_bytes
from vmr.losses import inter, intra
from vmr.losses.objective import Objective
from vmr.losses.pairs import SIDES, Pairs, global_rows

Array = jax.Array
# Pairs -> the loss () and its gradient at the embeddings, by modality
ValueAndGradient = Callable[[Pairs], tuple[Array, dict[str, Array]]]

TEMPERATURE = 0.07
SCALE, BIAS = 10.0, -10.0  # SigLIP's initial values
# VM-NET as published.
MARGIN = 0.1
WEIGHTS = {"m2v": 3.0, "v2m": 1.0, "music": 0.2, "video": 0.2}


@dataclass(frozen=True)
class Problem:
    """Shapes of a batch: N items, D width, P input width; sharded over devices."""

    items: int
    width: int
    input_width: int
    devices: int = 1


class Batch(NamedTuple):
    """Pairs as arrays of any library, with the fields of `vmr.losses.pairs.Pairs`."""

    video: Any  # (N, D) unit rows
    music: Any  # (N, D) unit rows
    video_inputs: Any  # (N, P) unit rows
    music_inputs: Any  # (N, P) unit rows
    positive_ids: Any  # (N,) int32, all different


def random_batch(problem: Problem) -> Batch:
    """Pairs as encoders might make them, float32.

    A video's embedding has a cosine of about 0.45 with its inputs and of 0.2 with its music, which
    leaves some of the hardest negatives within the margin.
    """
    random = np.random.default_rng(0)

    # Rows change in place, so that the peak of memory is the batch itself.

    def unit(rows: np.ndarray) -> np.ndarray:
        rows /= np.sqrt(np.einsum("np,np->n", rows, rows))[:, None]
        return rows

    def near(rows: np.ndarray, noise_length: float) -> np.ndarray:
        noise = unit(random.standard_normal(rows.shape, np.float32))
        noise *= noise_length
        noise += rows
        return unit(noise)

    def projected(rows: np.ndarray, width: int) -> np.ndarray:  # roughly preserves cosines
        return unit(rows @ random.standard_normal((rows.shape[1], width), np.float32))

    video_inputs = unit(random.standard_normal((problem.items, problem.input_width), np.float32))
    video = near(projected(video_inputs, problem.width), 2)
    music = near(video, 5)
    music_inputs = near(projected(music, problem.input_width), 2)
    positive_ids = np.arange(problem.items, dtype=np.int32)
    return Batch(video, music, video_inputs, music_inputs, positive_ids)


cross_entropy = optax.softmax_cross_entropy_with_integer_labels  # (n,N), (n,) labels -> (n,)


def infonce(pairs: Pairs, dtype: Any = None) -> Array:
    """InfoNCE by one score matrix and two log-sum-exps; factors of the product in `dtype`."""
    video, music = (x if dtype is None else x.astype(dtype) for x in (pairs.video, pairs.music))
    scores = jnp.matmul(video, music.T, preferred_element_type=jnp.float32) / TEMPERATURE
    of_rows, of_columns = (jax.nn.logsumexp(scores, axis=axis) for axis in (1, 0))
    return jnp.mean(0.5 * (of_rows + of_columns) - jnp.diagonal(scores))


def optax_softmax(pairs: Pairs) -> Array:
    """Optax's softmax cross-entropy in each direction of one score matrix."""
    scores, labels = pairs.video @ pairs.music.T / TEMPERATURE, jnp.arange(pairs.positive_ids.size)
    return 0.5 * jnp.mean(cross_entropy(scores, labels) + cross_entropy(scores.T, labels))


def optax_ntxent(pairs: Pairs) -> Array:
    """Optax's NT-Xent of 2N items, with negatives of the anchor's own modality as well."""
    embeddings = jnp.concatenate([pairs.video, pairs.music])
    return optax.losses.ntxent(embeddings, jnp.tile(pairs.positive_ids, 2), TEMPERATURE)


def structure(pairs: Pairs) -> Array:
    """Structure loss over every triplet of videos, as its formula stands."""
    items = pairs.positive_ids.size
    i, j, k = jnp.ogrid[:items, :items, :items]
    before, after = pairs.video_inputs @ pairs.video_inputs.T, pairs.video @ pairs.video.T
    gaps = after[:, :, None] - after[:, None, :]
    flips = jnp.sign(gaps) - jnp.sign(before[:, :, None] - before[:, None, :])
    terms = jnp.where((i != j) & (i != k), lax.stop_gradient(flips) * gaps, 0)
    return jnp.sum(terms) / (items * (items - 1) * (items - 2))


def structure_sort(pairs: Pairs) -> Array:
    """Structure loss from ranks, by `lax.sort` with the columns carried along."""
    items = pairs.positive_ids.size
    own = jnp.eye(items, dtype=bool)
    anchors, columns = (lax.broadcasted_iota(jnp.int32, own.shape, axis) for axis in (0, 1))

    def ranks(values: Array) -> Array:  # #smaller − #larger in each row, its own entry left out
        values = jnp.where(own, -jnp.inf, values)
        ascending, order = lax.sort((values, columns), num_keys=1)
        differs = ascending[:, 1:] != ascending[:, :-1]
        starts, ends = (jnp.pad(differs, ((0, 0), ends)) for ends in ((1, 0), (0, 1)))
        # Equals share a rank: the entries before `first` are smaller, those after `last` larger.
        first = lax.cummax(jnp.where(starts, columns, 0), axis=1)
        last = lax.cummin(jnp.where(ends, columns, items - 1), axis=1, reverse=True)
        signed = jnp.zeros_like(order).at[anchors, order].set(first + last - items)
        return jnp.where(own, 0, signed)

    before, after = pairs.video_inputs @ pairs.video_inputs.T, pairs.video @ pairs.video.T
    flips = ranks(lax.stop_gradient(after)) - ranks(before)
    scale = 2 / (items * (items - 1) * (items - 2))
    return scale * jnp.sum(after * flips.astype(after.dtype))


def ii_mse(pairs: Pairs) -> Array:
    """`ii_mse` by two matrices: the videos' cosines before and after the encoder."""
    items, inputs = pairs.positive_ids.size, pairs.video_inputs
    unit = inputs / jnp.linalg.norm(inputs, axis=1, keepdims=True)
    change = pairs.video @ pairs.video.T - unit @ unit.T
    change = jnp.where(jnp.eye(items, dtype=bool), 0.0, change)
    return jnp.sum(change * change) / (items * (items - 1))


def differentiated(
    loss: Callable[[Pairs], Array], sides: tuple[str, ...] = ("video", "music")
) -> ValueAndGradient:
    """Adds to a loss its gradient, by autodiff, at the embeddings of these modalities."""

    def value_and_gradient(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
        embeddings = {side: pairs.embeddings(side) for side in sides}
        return jax.value_and_grad(lambda changed: loss(pairs._replace(**changed)))(embeddings)

    return value_and_gradient


def jitted(form: ValueAndGradient, problem: Problem) -> Prepared:
    """Prepares a form on one device."""
    return _compiled(jax.jit(form), jax.device_put(Pairs(*random_batch(problem))))


def _compiled(transformed: Any, *arguments: Any) -> Prepared:
    """Compiles a jitted or pmapped function; facts: its temporary memory and its value."""
    compiled = transformed.lower(*arguments).compile()
    memory = compiled.memory_analysis()  # None on some backends
    megabytes = f"{memory.temp_size_in_bytes / 1e6:.1f} MB" if memory else "?"

    def step() -> Any:
        return jax.block_until_ready(compiled(*arguments))

    return Prepared(step, {"memory": megabytes, "loss": f"{np.mean(step()[0]):.6g}"})


@dataclass(frozen=True)
class Weighed:
    """Objective, and the weights of its terms that are timed."""

    objective: Objective
    weights: Mapping[str, float]

    @property
    def sides(self) -> tuple[str, ...]:
        """Modalities whose embeddings have a gradient."""
        return tuple(sorted({side for term in self.weights for side in SIDES[term]}))

    def fused(self, pairs: Pairs) -> tuple[Array, dict[str, Array]]:
        """Value and gradient as in training, by `Objective.value_and_gradient`."""
        weights = {term: jnp.float32(self.weights.get(term, 0.0)) for term in SIDES}
        outcome = self.objective.value_and_gradient(pairs, weights)
        value = sum(weight * outcome.terms[term] for term, weight in self.weights.items())
        # XLA removes the work for a modality that is not returned.
        return jnp.asarray(value), {side: outcome.gradient[side] for side in self.sides}

    def by_rows(self, pairs: Pairs) -> tuple[Array, dict[str, Array]]:
        """Value and gradient by definition: all rows at once, autodiff."""

        def loss(pairs: Pairs) -> Array:
            rows = self.objective.rows(pairs)
            return sum(
                (w * jnp.mean(rows[term]) for term, w in self.weights.items()), jnp.zeros(())
            )

        return differentiated(loss, self.sides)(pairs)


def _nothing(anchors: Array, gallery: Array, positives: Array) -> Array:
    """Inter-modal loss that costs nothing, so that the intra-modal one is timed."""
    del gallery, positives
    return jnp.zeros_like(anchors[:, 0])


BOTH, VIDEO = {"m2v": 0.5, "v2m": 0.5}, {"video": 1.0}  # one modality: both cost the same
_INTRA = ("structure", "structure_adjacent", "ii_mse", "ii_kl", "js", "gram", "rkd_distance")
LOSSES: dict[str, Weighed] = {
    **{
        name: Weighed(Objective(getattr(inter, name)), BOTH)
        for name in ("ranking", "infonce", "siglip", "crossclr")
    },
    **{name: Weighed(Objective(_nothing, getattr(intra, name)), VIDEO) for name in _INTRA},
    "vmnet": Weighed(
        Objective(
            functools.partial(inter.ranking, margin=MARGIN, top_k=TOP_K),
            functools.partial(intra.structure_adjacent, top_k=TOP_K),
        ),
        WEIGHTS,
    ),
}
IN_BFLOAT16 = Weighed(Objective(inter.infonce, similarity_dtype=jnp.bfloat16), BOTH)


def bfloat16(problem: Problem) -> Prepared:
    """Our InfoNCE with factors of products in bfloat16; facts: its errors against float32."""
    prepared = jitted(IN_BFLOAT16.fused, problem)
    pairs = jax.device_put(Pairs(*random_batch(problem)))
    rounded, exact = jax.device_get((prepared.step(), jax.jit(LOSSES["infonce"].fused)(pairs)))
    facts = {
        "value off by": f"{abs(rounded[0] / exact[0] - 1):.1e}",
        "gradient off by": f"{largest_error(rounded[1], exact[1]):.1e}",
    }
    return Prepared(prepared.step, {**prepared.facts, **facts})


def largest_error(tree: Any, exact: Any) -> float:
    """Largest difference of two trees of arrays, over the largest entry of the second."""

    def largest(tree: Any) -> float:
        return max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(tree))

    return largest(jax.tree.map(np.subtract, tree, exact)) / largest(exact)


AXIS = "batch"


def sharded_ours(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
    """Our sharded InfoNCE: one tower gathered, one product of local rows with all columns."""
    weights = {term: jnp.float32(weight) for term, weight in BOTH.items()}
    outcome = LOSSES["infonce"].objective.value_and_gradient(pairs, weights, axis_name=AXIS)
    return outcome.loss, outcome.gradient


def gather_both(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
    """open_clip's `local_loss`: both towers gathered, local rows of each against the other."""

    def share(pairs: Pairs) -> Array:  # of the mean; the transpose of a gather sums over devices
        batch, labels = pairs.gathered(AXIS), global_rows(pairs.positive_ids.size, AXIS)
        losses = cross_entropy(pairs.video @ batch.music.T / TEMPERATURE, labels)
        losses += cross_entropy(pairs.music @ batch.video.T / TEMPERATURE, labels)
        return 0.5 * jnp.sum(losses) / batch.positive_ids.size

    value, gradient = differentiated(share)(pairs)
    return lax.psum(value, AXIS), gradient


def all_by_all(pairs: Pairs) -> tuple[Array, dict[str, Array]]:
    """open_clip without `local_loss`: every device gathers all and forms the whole matrix."""
    value, gradient = differentiated(lambda pairs: optax_softmax(pairs.gathered(AXIS)))(pairs)
    # Every device sends back the gradient of the whole loss, so that it arrives once per device.
    return value, jax.tree.map(lambda x: x / lax.axis_size(AXIS), gradient)


def pmapped(form: ValueAndGradient, problem: Problem) -> Prepared:
    """Prepares a form over the devices of this process, each with its share of the batch."""
    devices = jax.local_devices()[: problem.devices]
    batch = (x.reshape(len(devices), -1, *x.shape[1:]) for x in random_batch(problem))
    # Placed before the steps, so that no transfer is timed.
    pairs = jax.pmap(lambda pairs: pairs, devices=devices)(Pairs(*batch))
    return _compiled(jax.pmap(form, axis_name=AXIS, devices=devices), pairs)


Loss = Callable[[Batch], Any]


def vmnet_in_tensorflow() -> Loss:
    """Weighted sum () of VM-NET's four terms at unit embeddings, as published."""
    import tensorflow as tf

    def ranking(anchors: Any, gallery: Any) -> Any:
        similarity = tf.matmul(anchors, gallery, transpose_b=True)
        positive = tf.linalg.diag_part(similarity)
        violation = tf.maximum(0.0, MARGIN - positive[:, None] + similarity)
        violation = tf.linalg.set_diag(violation, tf.zeros_like(positive))
        top_k = min(TOP_K, anchors.shape[0])
        return tf.reduce_mean(tf.math.top_k(violation, top_k, sorted=False)[0])

    def adjacent(inputs: Any, embeddings: Any) -> Any:
        before, after = tf.nn.l2_normalize(inputs[:TOP_K], 1), embeddings[:TOP_K]
        before, after = (tf.matmul(x, x, transpose_b=True) for x in (before, after))
        gaps, gaps_before = (x[:, :-1] - x[:, 1:] for x in (after, before))
        return tf.reduce_mean(tf.stop_gradient(tf.sign(gaps) - tf.sign(gaps_before)) * gaps)

    return functools.partial(_vmnet, ranking, adjacent)


def vmnet_in_torch() -> Loss:
    """VM-NET's loss in torch, see `vmnet_in_tensorflow`."""
    import torch

    def ranking(anchors: Any, gallery: Any) -> Any:
        similarity = anchors @ gallery.T
        violation = torch.relu(MARGIN - similarity.diagonal()[:, None] + similarity)
        own = torch.eye(len(anchors), dtype=torch.bool)
        top_k = min(TOP_K, len(anchors))
        return violation.masked_fill(own, 0).topk(top_k, sorted=False).values.mean()

    def adjacent(inputs: Any, embeddings: Any) -> Any:
        before = torch.nn.functional.normalize(inputs[:TOP_K])
        before, after = before @ before.T, embeddings[:TOP_K] @ embeddings[:TOP_K].T
        gaps, gaps_before = (x[:, :-1] - x[:, 1:] for x in (after, before))
        return ((gaps.sign() - gaps_before.sign()).detach() * gaps).mean()

    return functools.partial(_vmnet, ranking, adjacent)


def _vmnet(ranking: Callable[..., Any], adjacent: Callable[..., Any], batch: Batch) -> Any:
    return (
        WEIGHTS["m2v"] * ranking(batch.music, batch.video)
        + WEIGHTS["v2m"] * ranking(batch.video, batch.music)
        + WEIGHTS["music"] * adjacent(batch.music_inputs, batch.music)
        + WEIGHTS["video"] * adjacent(batch.video_inputs, batch.video)
    )


def structure_in_torch() -> Loss:
    """Structure loss over all triplets of videos, from ranks by argsort."""
    import torch

    def ranks(values: Any) -> Any:  # see `structure_sort`
        items = len(values)
        own, columns = torch.eye(items, dtype=torch.bool), torch.arange(items).expand(items, items)
        values = values.masked_fill(own, -torch.inf)
        order = values.argsort(dim=1)
        ascending = values.gather(1, order)
        differs = ascending[:, 1:] != ascending[:, :-1]
        starts, ends = (torch.nn.functional.pad(differs, ends) for ends in ((1, 0), (0, 1)))
        first = torch.where(starts, columns, 0).cummax(1).values
        last = torch.where(ends, columns, items - 1).flip(1).cummin(1).values.flip(1)
        signed = torch.empty_like(order).scatter_(1, order, first + last - items)
        return signed.masked_fill(own, 0)

    def loss(batch: Batch) -> Any:
        items, after = len(batch.video), batch.video @ batch.video.T
        with torch.no_grad():
            flips = ranks(after) - ranks(batch.video_inputs @ batch.video_inputs.T)
        return 2 * (after * flips).sum() / (items * (items - 1) * (items - 2))

    return loss


def open_clip(name: str, *scales: float) -> Loss:
    """Loss of open_clip at its scale and, if it has one, its bias."""
    import torch

    loss = getattr(importlib.import_module("open_clip.loss"), name)()
    options = [torch.tensor(scale) for scale in scales]
    return lambda batch: loss(batch.video, batch.music, *options)


def metric_learning(name: str, option: float, hard: bool = False) -> Loss:
    """Mean over both directions of a loss of pytorch-metric-learning.

    Args:
      name: name of the loss.
      option: its first argument.
      hard: True takes the triplets that `BatchHardMiner` finds, over cosines.
    """
    library = importlib.import_module
    cosine = library("pytorch_metric_learning.distances").CosineSimilarity()
    options = {"distance": cosine} if hard else {}
    loss = getattr(library("pytorch_metric_learning.losses"), name)(option, **options)
    miner = library("pytorch_metric_learning.miners").BatchHardMiner(**options) if hard else None

    def direction(anchors: Any, gallery: Any, labels: Any) -> Any:
        # Given the same tensor twice, the library would drop the diagonal: the positives.
        gallery_labels = labels.clone()
        mined = miner(anchors, labels, gallery, gallery_labels) if miner else None
        return loss(anchors, labels, mined, gallery, gallery_labels)

    return lambda batch: (
        0.5 * direction(batch.video, batch.music, batch.positive_ids)
        + 0.5 * direction(batch.music, batch.video, batch.positive_ids)
    )


def in_tensorflow(form: Callable[[], Loss], problem: Problem) -> Prepared:
    """Prepares a form and its gradient as one `tf.function`."""
    import tensorflow as tf

    loss = form()

    @tf.function
    def value_and_gradient(batch: Batch) -> tuple[Any, dict[str, Any]]:
        with tf.GradientTape() as tape:
            embeddings = {"video": batch.video, "music": batch.music}
            tape.watch(embeddings)
            value = loss(batch)
        return value, tape.gradient(value, embeddings)

    def step_of(problem: Problem) -> Callable[[], Any]:
        batch = Batch(*map(tf.constant, random_batch(problem)))
        value_and_gradient.get_concrete_function(batch)  # traced here, not in a timed step
        return lambda: value_and_gradient(batch)

    return _first_step(step_of, problem)


def in_torch(form: Callable[[], Loss], problem: Problem) -> Prepared:
    """Prepares an eager form and its gradient, by autograd, at the embeddings that have one."""
    import torch

    loss = form()

    def step_of(problem: Problem) -> Callable[[], Any]:
        batch = Batch(*map(torch.from_numpy, random_batch(problem)))

        def step() -> tuple[Any, dict[str, Any]]:
            video, music = (x.detach().requires_grad_() for x in (batch.video, batch.music))
            value = loss(batch._replace(video=video, music=music))
            value.backward()
            gradient = {"video": video.grad, "music": music.grad}
            return value.detach(), {side: x for side, x in gradient.items() if x is not None}

        return step

    return _first_step(step_of, problem)


def _first_step(step_of: Callable[[Problem], Callable[[], Any]], problem: Problem) -> Prepared:
    """Prepares the step of a problem; its memory: growth of the process's peak in its first run."""
    # A smaller step first, for whatever a library allocates once.
    step_of(replace(problem, items=min(problem.items, 128)))()
    step = step_of(problem)
    # The peak of a process never falls: what a library frees and takes again is not seen.
    before = peak_bytes()
    loss = float(step()[0])
    megabytes = (peak_bytes() - before) / 1e6
    return Prepared(step, {"memory": f"{megabytes:.0f} MB RSS", "loss": f"{loss:.6g}"})


@dataclass(frozen=True)
class Peer:
    """Contender of a family of losses.

    Attributes:
      prepare: function of a problem, called in the contender's own process.
      needs: packages that it imports, beyond what this project installs.
      most: largest number of items for the memory of a small machine; None without a limit.
      note: remark for the table: another loss, a dtype, the shape that it forms.
    """

    prepare: Callable[[Problem], Prepared]
    needs: tuple[str, ...] = ()
    most: int | None = None
    note: str = ""


def _jax(form: ValueAndGradient, most: int | None = None, note: str = "") -> Peer:
    return Peer(functools.partial(jitted, form), (), most, note)


def _torch(
    form: Callable[..., Loss], *arguments: Any, most: int | None = None, note: str = ""
) -> Peer:
    needs = {open_clip: ("open_clip",), metric_learning: ("pytorch_metric_learning",)}.get(form, ())
    prepare = functools.partial(in_torch, functools.partial(form, *arguments))
    return Peer(prepare, ("torch", *needs), most, note)


_NTXENT = "another loss: negatives of both modalities; forms (2N, 2N, D)"
_TRIPLET = "another loss: the hardest negative alone, no structure"
FAMILIES: dict[str, dict[str, Peer]] = {
    "infonce": {
        "ours": _jax(LOSSES["infonce"].fused),
        "ours bfloat16": Peer(bfloat16, note="factors of products in bfloat16"),
        "naive": _jax(differentiated(infonce)),
        "optax softmax": _jax(differentiated(optax_softmax)),
        "optax ntxent": _jax(differentiated(optax_ntxent), most=512, note=_NTXENT),
        "open_clip": _torch(open_clip, "ClipLoss", 1 / TEMPERATURE),
        "pml supcon": _torch(
            *(metric_learning, "SupConLoss", TEMPERATURE), most=4096, note="normalises rows"
        ),
        "pml ntxent": _torch(
            *(metric_learning, "NTXentLoss", TEMPERATURE),
            most=512,
            note="normalises rows; forms (N, N²)",
        ),
    },
    "siglip": {
        "ours": _jax(LOSSES["siglip"].fused),
        "open_clip": _torch(open_clip, "SigLipLoss", SCALE, BIAS),
    },
    "vmnet": {
        "ours": _jax(LOSSES["vmnet"].fused),
        "tensorflow": Peer(functools.partial(in_tensorflow, vmnet_in_tensorflow), ("tensorflow",)),
        "torch": _torch(vmnet_in_torch),
        "pml triplet": _torch(metric_learning, "TripletMarginLoss", MARGIN, True, note=_TRIPLET),
    },
    "structure": {
        "ours": _jax(LOSSES["structure"].fused),
        "naive": _jax(differentiated(structure, ("video",)), most=512, note="forms (N, N, N)"),
        "lax.sort": _jax(differentiated(structure_sort, ("video",))),
        "torch argsort": _torch(structure_in_torch),
    },
    "ii_mse": {
        "ours": _jax(LOSSES["ii_mse"].fused),
        "naive": _jax(differentiated(ii_mse, ("video",))),
    },
    **{
        name: {"ours": _jax(LOSSES[name].fused), "rows": _jax(LOSSES[name].by_rows)}
        for name in ("ii_kl", "js", "gram", "rkd_distance", "crossclr")
    },
    "infonce_pmap": {
        "ours": Peer(functools.partial(pmapped, sharded_ours)),
        "gather both": Peer(functools.partial(pmapped, gather_both)),
        "all by all": Peer(functools.partial(pmapped, all_by_all)),
    },
}
# Here a score matrix takes 0.27, 1.1 or 4.3 GB, and the naive form holds three.
LARGE = "infonce, large"
FAMILIES[LARGE] = {
    "ours": FAMILIES["infonce"]["ours"],
    "naive": replace(FAMILIES["infonce"]["naive"], most=16384),
}


def missing(family: str) -> tuple[str, ...]:
    """Packages that peers of a family need and that are not installed."""
    needs = dict.fromkeys(name for peer in FAMILIES[family].values() for name in peer.needs)
    return tuple(name for name in needs if find_spec(name) is None)


def contenders(family: str, problem: Problem) -> dict[str, Callable[[], Prepared]]:
    """Contenders of a family that are installed and have the memory for this problem."""
    absent = missing(family)
    return {
        name: functools.partial(prepare, family, name, problem)
        for name, peer in FAMILIES[family].items()
        if not set(peer.needs) & set(absent) and (peer.most is None or problem.items <= peer.most)
    }


def prepare(family: str, name: str, problem: Problem) -> Prepared:
    """Prepares a contender in its own process."""
    # torch computes on the CPU, and so does JAX unless JAX_PLATFORMS says otherwise.
    jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS") or "cpu")
    if problem.devices > 1:
        jax.config.update("jax_num_cpu_devices", problem.devices)
    return FAMILIES[family][name].prepare(problem)
