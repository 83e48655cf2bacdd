"""Processes that extract: each loads its extractors once and does an item at a time.

The process that starts them loads none: it would hold the accelerator that they need. A process
that dies costs no more than the item that it was at.
"""

import contextlib
import os
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from vmr.errors import UserError
from vmr.media.extraction import Settings, extract_item, failed, load_accounts
from vmr.media.journal import Outcome
from vmr.media.pairs import Item
from vmr.media.plan import facts_of
from vmr.media.recipe import Recipe
from vmr.processes import SPAWN, end_with_parent, exit_in_words, inherited

# Libraries make as many threads as they find cores when they are imported; with a process a core
# they would only be in each other's way.
_ONE_CORE = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
        *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    ),
    "1",
)
_PATIENCE_SECONDS = 5.0  # for a process whose connection has closed to be gone


def extract_items(
    items: Sequence[Item], settings: Settings, jobs: int, first: "Worker"
) -> Generator[Outcome, None, None]:
    """Extracts items in processes; yields their outcomes as they end.

    An item whose process dies is tried again by itself when the others are done, and has failed if
    it dies again.

    Args:
      items: the items.
      settings: settings of all.
      jobs: processes at a time.
      first: process that has loaded its extractors.

    Raises:
      UserError: features cannot be written, or an extractor cannot be loaded.
    """
    suspects = []
    # Closed at once, so that an interrupt kills the processes now, not at a garbage collection.
    with contextlib.closing(_in_processes(items, settings, jobs, [first])) as ended:
        for item, result in ended:
            if isinstance(result, Outcome):
                yield result
            else:
                suspects.append(item)
    with contextlib.closing(_in_processes(suspects, settings, 1, [])) as ended:
        for item, result in ended:
            if isinstance(result, Outcome):
                yield result
            else:
                facts = facts_of(item, settings.digests[item.side])
                yield failed(item, facts, f"ends the process that decodes it: {result}")


def _in_processes(
    items: Sequence[Item], settings: Settings, jobs: int, ready: list["Worker"]
) -> Generator[tuple[Item, Outcome | str], None, None]:
    """Extracts items in processes; yields each with its outcome, or the end of its process.

    Args:
      items: the items.
      settings: settings of all.
      jobs: processes at a time.
      ready: processes that have loaded their extractors.
    """
    waiting = deque(items)
    # Each loads the extractors of both sides, in one order: TensorFlow's numbers depend on which of
    # them loads it.
    recipes = settings.recipes
    workers = [*ready, *(Worker(recipes) for _ in range(min(jobs, len(items)) - len(ready)))]

    def go_on(worker: Worker) -> None:
        if waiting:
            worker.give(waiting.popleft(), settings)
        else:
            workers.remove(worker)
            worker.kill()

    try:
        for worker in ready:
            go_on(worker)
        while workers:
            readable = wait([worker.connection for worker in workers])
            for worker in [each for each in workers if each.connection in readable]:
                item = worker.item
                try:
                    result = worker.answer()
                except _DiedError as death:
                    if item is None:
                        raise UserError(f"{death} while it loaded its extractor") from None
                    workers.remove(worker)
                    worker.kill()
                    yield item, death.how
                    if waiting:
                        workers.append(Worker(recipes))
                    continue
                if item is not None:
                    yield item, result
                go_on(worker)
            if not waiting:  # what is still loading has come too late
                for late in [worker for worker in workers if worker.item is None]:
                    go_on(late)
    finally:
        for worker in workers:
            worker.kill()


class _DiedError(UserError):
    """End of a process before it has answered; `how` in words."""

    def __init__(self, how: str) -> None:
        super().__init__(f"a process of the extraction ended early: {how}")
        self.how = how


class Worker:
    """Process that loads the extractors of recipes, and extracts an item at a time.

    Attributes:
      item: item that it is at; None while it loads.
      connection: readable when it has answered, or has ended.
    """

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self.item: Item | None = None
        self.connection, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(theirs, dict(recipes)), daemon=True)
        environment = dict(_ONE_CORE)
        # By default the first process would take most of an accelerator's memory.
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = os.environ.get(
            "XLA_PYTHON_CLIENT_PREALLOCATE", "false"
        )
        with inherited(environment=environment):
            self._process.start()
        theirs.close()  # else its end would not be seen

    def give(self, item: Item, settings: Settings) -> None:
        """Sends an item, which `answer` is about from then on."""
        self.item = item
        with contextlib.suppress(OSError):  # it has died, as `answer` will tell
            self.connection.send((item, settings))

    def answer(self) -> Any:
        """Waits for the accounts of the extractors, the first time, or for the item's outcome.

        Raises:
          _DiedError: the process has ended.
          Exception: no fault of an item, which should end the extraction.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_PATIENCE_SECONDS)
            raise _DiedError(exit_in_words(self._process.exitcode or 0)) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        """Ends the process now; files are whole or absent all the same."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _serve(connection: Connection, recipes: Mapping[str, Recipe]) -> None:
    """Answers one request after the other, in a process that has just been started."""
    end_with_parent()
    connection.send(_answer(load_accounts, recipes))
    with contextlib.suppress(EOFError):
        while True:
            connection.send(_answer(extract_item, *connection.recv()))


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Result of a function, or its exception in a form that can be sent."""
    try:
        return function(*arguments)
    except UserError as mistake:
        return UserError(str(mistake))
    except Exception:
        return RuntimeError(traceback.format_exc())
