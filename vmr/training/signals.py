"""Ctrl-C and SIGTERM end a run between two steps, so that it is saved first."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

# Python's own handlers. Only these are replaced: handlers of a notebook or of Slurm stay.
_OURS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class StopRequest:
    """Request to stop, false until a signal comes.

    Attributes:
      signal: signal that made the request, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def note(self, number: int) -> None:
        """Notes a signal, of which 0 is none, that another process got; an own one stays."""
        if number and self.signal is None:
            self.signal = signal.Signals(number)

    def end(self) -> None:
        """Ends the process as the signal would have: status 130 of Ctrl-C, 143 of SIGTERM.

        Raises:
          KeyboardInterrupt: Ctrl-C was pressed.
          SystemExit: another signal came.
        """
        if self.signal is signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Context in which the first Ctrl-C or SIGTERM requests a stop; the second ends the process.

    Outside the main thread, where Python allows no handlers, signals keep their effect.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    ours = [number for number, handler in _OURS.items() if signal.getsignal(number) is handler]

    def restore() -> None:
        for number in ours:
            signal.signal(number, _OURS[number])

    def note(number: int, _: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        restore()
        message = f"{request.signal.name}: saving after this step; once more stops at once\n"
        os.write(2, message.encode())  # `print` is not reentrant, and may be what was interrupted

    for number in ours:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
