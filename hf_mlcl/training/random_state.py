"""Random states: keeping evaluation from disturbing training's numbers, and drawing the same numbers once more."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restores the global random states of Python, NumPy and torch (all devices) at the end of the block."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)


class RandomState:
    """The global random states of Python, NumPy, torch's CPU and one device as they are now."""

    def __init__(self, device: torch.device) -> None:
        self._device = None if device.type == "cpu" else device
        self._taken = self._take()

    def _take(self) -> tuple:
        module = self._device and torch.get_device_module(self._device)
        of_device = module.get_rng_state(self._device) if module else None
        return random.getstate(), np.random.get_state(), torch.get_rng_state(), of_device

    def _put(self, state: tuple) -> None:
        python_state, numpy_state, cpu, of_device = state
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu)
        if of_device is not None:
            torch.get_device_module(self._device).set_rng_state(of_device, self._device)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draws inside the block what was drawn after this state was taken, and goes on afterwards as before."""
        before = self._take()
        self._put(self._taken)
        try:
            yield
        finally:
            self._put(before)
