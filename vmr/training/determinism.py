"""Determinism on accelerators: operations that XLA is asked for, and where that has an effect."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from vmr.disk import read_json, write_json
from vmr.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")

# Leaves out atomic additions, and takes kernels by rule rather than by which was quickest just now.
_FLAG = "--xla_gpu_deterministic_ops"

FLAG_HELP = (
    "Asks XLA for operations whose results are the same to the bit each time, at some cost in "
    "speed. No effect on a CPU, which has no others."
)


class _Flag(Protocol):
    """Flag of absl, whose value is known once flags are parsed."""

    @property
    def value(self) -> bool | None: ...


def asked_by(flag: _Flag) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates the function of a command, which then begins with `ask` where the flag is given.

    The outermost: processes that connect with others start their devices.
    """

    def decorated(main: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(main)
        def asking_main(*arguments: P.args, **options: P.kwargs) -> T:
            if flag.value:
                ask()
            return main(*arguments, **options)

        return asking_main

    return decorated


def ask() -> None:
    """Asks XLA for operations whose results are the same, to the bit, each time they are run.

    By way of XLA_FLAGS, which processes that are started later inherit. XLA reads them once, when
    JAX first looks for its devices: to be called before that.

    Raises:
      UserError: XLA_FLAGS asks for the opposite.
    """
    given = _given()
    if given is None:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=true".strip()
    elif not given:
        raise UserError(
            f"--deterministic is given, but XLA_FLAGS has {_FLAG}=false: leave out one of them"
        )


def is_asked() -> bool:
    """True if XLA_FLAGS asks for deterministic operations, by `ask` or by the user's own hand."""
    return bool(_given())


def _given() -> bool | None:
    """Value of the flag in XLA_FLAGS; None without it."""
    words = os.environ.get("XLA_FLAGS", "").split()
    values = [word.partition("=")[2] for word in words if word.partition("=")[0] == _FLAG]
    # The last counts, and a flag alone is true.
    return values[-1].lower() in ("", "1", "true") if values else None


def effect(platform: str) -> str:
    """Line on the effect that deterministic operations have; empty where none are asked for.

    Args:
      platform: platform of the devices, as JAX names it: `cpu`, `gpu`, `tpu`.
    """
    if not is_asked():
        return ""
    if platform in ("gpu", "cuda", "rocm"):
        return "deterministic operations: asked of XLA, at some cost in speed"
    return f"deterministic operations: no effect on a {platform}, which has no others"


def note_resumed(workdir: pathlib.Path) -> None:
    """Takes `deterministic` back in `environment.json` where a run goes on without it.

    The other way round the note stays false: the steps before had no such operations.
    """
    path = workdir / "environment.json"
    environment = read_json(path)
    if environment.get("deterministic") and not is_asked():
        write_json(path, environment | {"deterministic": False})
        print(f"{path}: deterministic was true, is now false: no --deterministic", flush=True)
