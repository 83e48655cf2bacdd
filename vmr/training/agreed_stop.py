"""Stop of a run that several processes share: all hear of it after the same step."""

from collections.abc import Sequence

import jax
import numpy as np

from vmr import distributed
from vmr.training import devices as on_devices
from vmr.training.signals import StopRequest


class AgreedStop:
    """Request to stop on which all processes of a run agree; of a single one, its own request."""

    def __init__(self, request: StopRequest, devices: Sequence[jax.Device]) -> None:
        """Compiles nothing yet.

        Args:
          request: request of this process, which notes the signals of the others.
          devices: devices of this process.
        """
        self._request, self._devices = request, devices
        self._maximum = on_devices.pmapped_maximum(devices)
        self._asked: jax.Array | None = None  # (), highest signal, not yet waited for
        self._is_agreed = False

    def __bool__(self) -> bool:
        return bool(self._request) if distributed.count() == 1 else self._is_agreed

    def hear_after_step(self) -> None:
        """Asks all for their signals, and hears what was asked a step ago: no step waits for it."""
        if distributed.count() == 1:
            return
        asked, own = self._asked, self._request.signal or 0
        self._asked = self._maximum(np.full(len(self._devices), own, np.int32))
        if asked is not None and int(asked):
            self._is_agreed = True
            self._request.note(int(asked))
