"""Which contenders each family of losses has, and how their processes start.

Nothing here imports a library that computes: each is imported in the process of its contender.
"""

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from tools.paired import Contender, Prepared
from tools.peers.problem import Problem


@dataclass(frozen=True)
class Peer:
    """A contender of a family.

    Attributes:
      name: as the table shows it.
      library: the module of `tools.peers` that has it.
      form: what that module calls it.
      needs: packages that it imports, beyond what this project installs.
      most: items; beyond, its memory is more than a small machine has.
      note: how its loss, or what it needs, differs from the others.
    """

    name: str
    library: str
    form: str
    needs: tuple[str, ...] = ()
    most: int | None = None
    note: str = ""


_OPEN_CLIP = ("torch", "open_clip")
_METRIC_LEARNING = ("torch", "pytorch_metric_learning")


def _ours_and_rows(form: str) -> tuple[Peer, ...]:
    return Peer("ours", "ours", form), Peer("rows", "rows", form)


FAMILIES: dict[str, tuple[Peer, ...]] = {
    "infonce": (
        Peer("ours", "ours", "infonce"),
        Peer("ours bfloat16", "ours", "infonce_bfloat16", note="factors of products in bfloat16"),
        Peer("naive", "jax_forms", "infonce"),
        Peer("optax softmax", "jax_forms", "optax_softmax"),
        Peer(
            "optax ntxent",
            "jax_forms",
            "optax_ntxent",
            most=512,
            note="another loss: negatives of both modalities; forms (2N, 2N, D)",
        ),
        Peer("open_clip", "torch_forms", "open_clip_infonce", _OPEN_CLIP),
        Peer("pml supcon", "torch_forms", "pml_supcon", _METRIC_LEARNING, note="normalises rows"),
        Peer(
            "pml ntxent",
            "torch_forms",
            "pml_ntxent",
            _METRIC_LEARNING,
            most=512,
            note="normalises rows; forms (N, N²)",
        ),
    ),
    "siglip": (
        Peer("ours", "ours", "siglip"),
        Peer("open_clip", "torch_forms", "open_clip_siglip", _OPEN_CLIP),
    ),
    "vmnet": (
        Peer("ours", "ours", "vmnet"),
        Peer("tensorflow", "tensorflow_forms", "vmnet"),
        Peer("torch", "torch_forms", "vmnet", ("torch",)),
        Peer(
            "pml triplet",
            "torch_forms",
            "pml_triplet",
            _METRIC_LEARNING,
            note="another loss: the hardest negative alone, no structure",
        ),
    ),
    "structure": (
        Peer("ours", "ours", "structure"),
        Peer("naive", "jax_forms", "structure", most=512, note="forms (N, N, N)"),
        Peer("lax.sort", "jax_forms", "structure_sort"),
        Peer("torch argsort", "torch_forms", "structure", ("torch",)),
    ),
    "ii_mse": (Peer("ours", "ours", "ii_mse"), Peer("naive", "jax_forms", "ii_mse")),
    "ii_kl": _ours_and_rows("ii_kl"),
    "js": _ours_and_rows("js"),
    "gram": _ours_and_rows("gram"),
    "rkd_distance": _ours_and_rows("rkd_distance"),
    "crossclr": _ours_and_rows("crossclr"),
    "infonce_pmap": (
        Peer("ours", "jax_sharded", "ours"),
        Peer("gather both", "jax_sharded", "gather_both"),
        Peer("all by all", "jax_sharded", "all_by_all"),
    ),
}
# Where a score matrix takes 0.27, 1.1 and 4.3 GB; the naive form holds three.
LARGE = (Peer("ours", "ours", "infonce"), Peer("naive", "jax_forms", "infonce", most=16384))


def missing(peers: Iterable[Peer]) -> tuple[str, ...]:
    """The packages that these peers need and that are not installed."""
    needed = dict.fromkeys(package for peer in peers for package in peer.needs)
    return tuple(package for package in needed if find_spec(package) is None)


def contenders(peers: Iterable[Peer], problem: Problem) -> dict[str, Contender]:
    """Those that are installed and have the memory for this problem."""
    return {
        peer.name: Contender(prepare, (peer.library, peer.form, problem))
        for peer in peers
        if not missing([peer]) and (peer.most is None or problem.items <= peer.most)
    }


def prepare(library: str, form: str, problem: Problem) -> Prepared:
    """A contender in its own process, where nothing that reads these variables is imported yet."""
    # torch computes on the CPU, and so do the others unless the user says where.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if problem.devices > 1:
        count = f"--xla_force_host_platform_device_count={problem.devices}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {count}".strip()
    return importlib.import_module(f"tools.peers.{library}").prepare(form, problem)
