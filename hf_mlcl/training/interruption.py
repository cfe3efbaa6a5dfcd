"""`SaveOnSignal`: Ctrl-C and SIGTERM end a training after its current step, with a checkpoint."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the work; `number` is that of the signal."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number


class SaveOnSignal(TrainerCallback):
    """While training, the first Ctrl-C or SIGTERM lets the step end, saves a checkpoint and raises `Interrupted`.

    A second one, and one that comes outside of training, raises `Interrupted` at once. Compiled code of others can
    swallow what a signal raises: `check()` between two pieces of work raises it again. To be entered and to be given
    to the Trainer:

        with SaveOnSignal() as on_signal:
            MLCLTrainer(..., callbacks=[on_signal]).train()

    Processes that train together stop at the same step, one after the first of them has got the signal.
    """

    def __init__(self) -> None:
        self.received = 0  # the number of the first signal
        self._training = False
        self._stopping = 0
        self._votes: Tensor | None = None
        self._process = os.getpid()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "SaveOnSignal":
        if threading.current_thread() is threading.main_thread():  # Python allows no other to handle signals
            self._handlers = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker: Ctrl-C is its parent's affair, SIGTERM comes from there
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if not self._training or self.received:
            self.received = self.received or number
            raise Interrupted(number)
        self.received = number
        if os.environ.get("RANK", "0") == "0":
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nfinishing this step and saving a checkpoint; the same signal again stops at once\n")

    def check(self) -> None:
        """Raises `Interrupted` where a signal has come."""
        if self.received:
            raise Interrupted(self.received)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._training, self._stopping, self._votes = True, 0, None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._stopping = self._agreed(args)
        if self._stopping:
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._stopping:
            raise Interrupted(self._stopping)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._training = False
        self.check()

    def _agreed(self, args: Any) -> int:
        """The signal for which all processes stop at this step, or 0."""
        if args.world_size == 1:
            return self.received
        # The votes of the step before: they have long been counted, while those of this step would have to be waited
        # for. Without both, processes would leave the training at different steps and wait for each other for ever.
        agreed = 0 if self._votes is None else int(self._votes)
        self._votes = torch.tensor(self.received, device=args.device)
        torch.distributed.all_reduce(self._votes, torch.distributed.ReduceOp.MAX)
        return agreed
