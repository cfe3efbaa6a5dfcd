"""What a training shows on the console: bars with names, a table that grows. Imports tqdm and transformers."""

import sys
from typing import Any

from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers.trainer_utils import IntervalStrategy, has_length

LOGGING_STEPS = 0.05  # the default: of all steps, so that a training of any length is told in about 20 lines
SCORES = {"Micro-F1": "micro_f1", "Macro-F1": "macro_f1", "mAP": "map"}  # by which one selects
_STAGES = {"Evaluation": "evaluating", "Prediction": "predicting"}  # what the Trainer calls them
_NO_SCORES = ("loss", "runtime", "_per_second", "_time")


def bar(name: str, total: int | None, shown: bool = True, **options: Any) -> Any:
    """A bar with a name and the time left, on a terminal only."""
    form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left]"
    disable = None if shown else True  # None looks for a terminal
    return tqdm(desc=name, total=total, disable=disable, bar_format=form, dynamic_ncols=True, **options)


class Progress(ProgressCallback):
    """In the place of transformers' `ProgressCallback` and `PrinterCallback`: shows less of what is logged.

    A kind of the former, so that `trainer.remove_callback(ProgressCallback)` silences it. All that is logged is in
    `trainer.state.log_history`, and in trackers.
    """

    training_bar: Any
    prediction_bar: Any

    def __init__(self, shown: bool) -> None:
        super().__init__()
        self.shown, self.stage = shown, ""
        self._head_is_shown = False

    @classmethod
    def of(cls, trainer: Trainer) -> "Progress":
        """Replaces the stock callback of a Trainer; one that shows a table of its own in a notebook stays."""
        progress = cls(not trainer.args.disable_tqdm and trainer.is_world_process_zero())
        for callback in reversed(trainer.callback_handler.callbacks):  # the Trainer's comes after the user's
            if type(callback) in (ProgressCallback, PrinterCallback):
                trainer.remove_callback(callback)
                trainer.add_callback(progress)
                break
        return progress

    def begin(self, description: str) -> None:
        """Names what the next bar shows."""
        self.stage = _STAGES.get(description, description)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.current_step, self._head_is_shown = state.global_step, False
        if state.is_world_process_zero:
            self.training_bar = bar("training", state.max_steps, self.shown, initial=state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.logging_strategy == IntervalStrategy.STEPS and args.logging_steps == LOGGING_STEPS:
            control.should_log = True

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and has_length(eval_dataloader):
            if self.prediction_bar is None:
                alone = self.training_bar is None
                self.prediction_bar = bar(self.stage, len(eval_dataloader), self.shown, leave=alone)
            self.prediction_bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is None:  # nothing is trained, or another process tells
            return
        if "train_runtime" in logs:
            speed = logs["train_samples_per_second"]
            self._print(f"training took {logs['train_runtime']:.0f} s, {speed:.0f} examples a second")
            return
        scores = {name: value for name, value in logs.items() if name.startswith("eval_")}
        if "loss" not in logs and not scores:
            return
        evaluates = list(SCORES) if args.eval_strategy != IntervalStrategy.NO else []
        if not self._head_is_shown:
            self._head_is_shown = True
            self._print("    step   epoch      loss  learning rate" + "".join(f"{name:>10}" for name in evaluates))
        cells = [f"{state.global_step:8}", f"{state.epoch or 0:8.2f}"]
        for name, form in (("loss", "10.4f"), ("learning_rate", "15.1e")):
            cells.append(f"{logs[name]:{form}}" if name in logs else " " * int(form.partition(".")[0]))
        self._print("".join(cells) + self._scores(scores, args.metric_for_best_model))

    @staticmethod
    def _scores(logs: dict[str, Any], best: str | None) -> str:
        """Cells of `SCORES`, and of other metrics that by which the best model is told; of none of them, all."""
        prefix = next((name.removesuffix("micro_f1") for name in logs if name.endswith("_micro_f1")), None)
        if prefix is None:
            found = {name: value for name, value in logs.items() if not name.endswith(_NO_SCORES)}
            return "".join(f"  {name.removeprefix('eval_')} {value:.4g}" for name, value in found.items())
        shown = "".join(f"{100 * logs[prefix + name]:9.1f}%" for name in SCORES.values())
        best = (best or "").removeprefix("eval_")
        if best not in ("", "loss", *SCORES.values()) and prefix + best in logs:
            shown += f"  {best} {logs[prefix + best]:.4g}"
        return f"{shown}  {prefix.removeprefix('eval_').removesuffix('_')}".rstrip()

    def _print(self, line: str) -> None:
        self.training_bar.write(line)
        sys.stdout.flush()  # a reader of a pipe wants to see it now
