"""`CheckpointingTrainer`: a Trainer whose checkpoints are whole or absent and whose resumed runs are bit-identical."""

import json
import math
import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.distributed.fsdp import StateDictType
from transformers import EarlyStoppingCallback, Trainer, TrainerState
from transformers.modeling_utils import unwrap_model
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, SaveStrategy, has_length
from transformers.utils import CONFIG_NAME, logging

from hf_mlcl.data.collator import Numbered

from .callbacks import SaveAfterEvaluation, SeedEpochs, ShareStatistics
from .checkpoints import STAGING, TEMPORARY, publish_checkpoint, publish_model, rotate
from .dataset_rows import default_workers
from .replacing import replaced

logger = logging.get_logger(__name__)


class CheckpointingTrainer(Trainer):
    """A Trainer whose checkpoints are whole or absent, and whose resumed runs are bit-identical to uninterrupted ones:
    in parameters, in the optimizer, in early stopping and in what it logs.

    All that overrides a private method of `transformers.Trainer` is in this class; `tests/training/test_private.py`
    names the methods. Subclasses have the methods under "for subclasses".
    """

    # What a step leaves for the next log; subclasses add theirs. Saved by each process for itself.
    _running_sums: tuple[str, ...] = ("_tr_loss", "_globalstep_last_logged")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.save_last_step = False  # whether training ends with a checkpoint of its last step, whatever the strategy
        self._staging = False
        self._saved_step = -1
        super().__init__(*args, **kwargs)
        self._order = torch.Generator()
        self.add_callback(SaveAfterEvaluation())
        self.add_callback(ShareStatistics())  # before a momentum encoder follows them
        self.add_callback(SeedEpochs(self._order))

    # --- for subclasses ---

    def restore_arguments(self) -> None:
        """Called before a trial of a search writes its values into the arguments."""

    def training_set_up(self) -> None:
        """Called when a training begins: `model_init` has made the model, and nothing is wrapped around it yet."""

    def training_prepared(self, checkpoint: str | None) -> None:
        """Called when the model is wrapped and has its weights, those of a checkpoint included."""

    def save_state(self, folder: str) -> None:
        """Called for each checkpoint, on all processes."""

    def make_train_sampler(self) -> Any:
        """The order of training examples; None for that of transformers."""
        return None

    def processor_as_trained(self) -> AbstractContextManager[Any]:
        """The context in which model and processor are saved."""
        return nullcontext()

    def push_checkpoint(self, checkpoint_folder: str) -> None:
        """Called with each checkpoint that is in its place, where `push_to_hub` is set."""

    def check_best_metric(self, metrics: dict[str, float]) -> None:
        """Called with the metrics from which the best model is told."""

    @property
    def core_model(self) -> Any:
        """The model itself, without what adapters, data parallelism or compilation wrap around it."""
        model: Any = unwrap_model(self.model)  # type: ignore[arg-type]
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    # --- saving ---

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # `training_args.bin` holds the arguments as they are; the access token is none of its business.
        with replaced(self.args, hub_token=None), self.processor_as_trained():
            super()._save(output_dir, state_dict)

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, STAGING) if self._staging else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes this step's checkpoint aside and moves it to its place when all processes have written theirs."""
        run = Path(self._get_output_dir(trial))
        place = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        written = run / STAGING / place.name
        if self.args.should_save:
            shutil.rmtree(run / STAGING, ignore_errors=True)  # what a killed run has left
        self.accelerator.wait_for_everyone()
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(place)
            if self.args.should_save:
                # Once more: the Trainer has noted as the best checkpoint the place where it was being written.
                self.state.save_to_json(str(written / TRAINER_STATE_NAME))
                if self.args.save_strategy == SaveStrategy.NO:
                    (written / TEMPORARY).touch()
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish_checkpoint(written, place)
        finally:
            self._staging = False
            if self.args.should_save:
                shutil.rmtree(run / STAGING, ignore_errors=True)
        self._saved_step = self.state.global_step
        if self.args.should_save:
            rotate(run, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self.push_checkpoint(str(place))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        # The Trainer would push what is still being written aside; `push_checkpoint` comes when it is in its place.
        pass

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        sums = {name: getattr(self, name) for name in self._running_sums}
        torch.save(sums, os.path.join(output_dir, f"running_sums_{self.args.process_index}.pth"))
        self.save_state(output_dir)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        self.check_best_metric(metrics)
        return super()._determine_best_metric(metrics, trial)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        if self.save_last_step and self._saved_step != self.state.global_step:
            self._save_checkpoint(self.model_wrapped, trial)
        # With a limit of 1 the Trainer would now delete the last checkpoint and keep the best: whatever is interrupted
        # before the model is saved would have to train again from there.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(trial, num_train_samples, start_time)
        finally:
            self.args.save_total_limit = limit

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves model, configuration and processor; see `transformers.Trainer.save_model`.

        An interruption leaves the folder with the old model, or with none that could be loaded.
        """
        if self._staging:  # the whole checkpoint is being written aside
            super().save_model(output_dir, _internal_call=True)
            if self.is_fsdp_enabled and self.args.should_save:  # weights in shards come without, and resuming asks it
                self.core_model.config.save_pretrained(output_dir)
            return
        folder = Path(str(self.args.output_dir if output_dir is None else output_dir))
        written = folder / STAGING / "model"
        try:
            if self.args.should_save:
                shutil.rmtree(folder / STAGING, ignore_errors=True)
            # Checkpoints may be in shards; of a model in shards the Trainer would save nothing, without a word.
            plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
            unsharded = replaced(plugin, state_dict_type=StateDictType.FULL_STATE_DICT) if plugin else nullcontext()
            with unsharded:
                super().save_model(str(written), _internal_call=True)
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # otherwise one process may call this alone
                self.accelerator.wait_for_everyone()
            if self.args.should_save and written.is_dir():
                publish_model(written, folder)
        finally:
            if self.args.should_save:
                shutil.rmtree(folder / STAGING, ignore_errors=True)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    # --- resuming ---

    def _hp_search_setup(self, trial: Any) -> None:
        if trial is not None:
            self.restore_arguments()
        super()._hp_search_setup(trial)
        self.training_set_up()

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, checkpoint: str | None) -> Any:
        prepared = super()._prepare_for_training(max_steps, train_dataloader, checkpoint)
        self.training_prepared(checkpoint)
        return prepared

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = self.make_train_sampler()
        if sampler is not None:
            return sampler
        # Samplers that go by length look into the examples.
        sampler = super()._get_train_sampler(
            train_dataset.dataset if isinstance(train_dataset, Numbered) else train_dataset
        )
        if isinstance(sampler, LengthGroupedSampler):
            # It would shuffle by the global random state at the epoch's begin, which no checkpoint in the middle of an
            # epoch knows, and which is not the same in all processes.
            sampler.generator = self._order
        return sampler

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        workers: int | None = self.args.dataloader_num_workers
        with replaced(self.args, dataloader_num_workers=default_workers(dataset) if workers is None else workers):
            return super()._get_dataloader(dataset, *args, **kwargs)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        # A transform makes the model's inputs of columns that are none.
        transformed = isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"
        return dataset if transformed else super()._remove_unused_columns(dataset, description)

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, num_train_epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        # In numbers of steps, as the state of a checkpoint has them: shares would be said to differ from it.
        steps = {name: getattr(self.args, name) for name in ("logging_steps", "eval_steps", "save_steps")}
        counts = {name: math.ceil(max_steps * n) if n and n < 1 else n for name, n in steps.items()}
        with replaced(self.args, **counts):
            start = super()._init_training_state(max_steps, steps_per_epoch, num_train_epochs, checkpoint, trial)
        self._saved_step = -1
        if checkpoint is None:
            return start
        folder = Path(checkpoint)
        if folder.resolve().parent == Path(self._get_output_dir(trial)).resolve():
            self._saved_step = self.state.global_step
        recorded = TrainerState.load_from_json(str(folder / TRAINER_STATE_NAME)).best_model_checkpoint
        # The folder may have been moved, or be named from elsewhere.
        if recorded is not None and folder.with_name(Path(recorded).name).is_dir():
            self.state.best_model_checkpoint = str(folder.with_name(Path(recorded).name))
        if not self.args.restore_callback_states_from_checkpoint:
            self._restore_callback_attributes()
        stopped_early = any(
            isinstance(callback, EarlyStoppingCallback)
            and callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
        )
        # The Trainer makes one more step after the last one in the middle of an epoch, and forgets an early stop.
        if stopped_early or self.state.global_step >= max_steps:
            return num_train_epochs, 0
        if has_length(self.train_dataset) or self.args.ignore_data_skip:
            return start
        # The Trainer takes a stream's first pass for all of the training; but it counts the passes in `epoch`.
        passes = int(self.state.epoch)
        return passes, round((self.state.epoch - passes) * max_steps * self.args.gradient_accumulation_steps)

    def _restore_callback_attributes(self) -> None:
        """Gives callbacks back what they had counted, and leaves their settings as the user has them now."""
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, ExportableState):
                saved: Any = self.state.stateful_callbacks.setdefault(type(callback).__name__, callback.state())  # type: ignore
                for name, value in (saved[-1] if isinstance(saved, list) else saved).get("attributes", {}).items():
                    setattr(callback, name, value)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._load_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_weights(str(self.state.best_model_checkpoint)):
            super()._load_best_model()

    def _load_weights(self, folder: str) -> bool:
        """Loads a checkpoint into the model, or into its adapter, as `from_pretrained` reads it; False where sharded.

        Checkpoints keep older names of some encoders' weights (ViT's among them). The Trainer loads by the names in
        the file, skips what it does not find, and would go on training from weights that were never loaded.
        """
        core, sharded = self.core_model, self.is_fsdp_enabled or self.is_deepspeed_enabled
        if not sharded or (Path(folder) / CONFIG_NAME).is_file():
            _check_same_model(core.config, folder, sharded)
        if sharded:
            return False
        if core.has_adapter:
            try:
                core.load_adapter_weights(folder)
            except (ValueError, OSError) as error:
                raise ValueError(f"resume_from_checkpoint: {error}") from error
            return True
        if (Path(folder) / "adapter_config.json").is_file():
            raise ValueError(f"resume_from_checkpoint: {folder} holds an adapter, and this model has none")
        loaded, found = type(core).from_pretrained(
            folder, config=core.config, dtype=core.dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
        different = {*found["missing_keys"], *found["unexpected_keys"], *(key[0] for key in found["mismatched_keys"])}
        if different:
            more = f" and {len(different) - 1} more weights" if len(different) > 1 else ""
            raise ValueError(
                f"resume_from_checkpoint: {folder} is of another model, which differs in {min(different)}{more}"
            )
        core.load_state_dict(loaded.state_dict())
        return True

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:
            if "parameter group" not in str(error):
                raise
            raise ValueError(
                f"resume_from_checkpoint: {checkpoint} trained other parameters; head_learning_rate, the optimizer "
                "and frozen parameters must be the same"
            ) from error

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        path = Path(str(checkpoint)) / f"running_sums_{self.args.process_index}.pth"
        if checkpoint is not None and path.is_file():
            for name, value in torch.load(path, map_location=self.args.device.type, weights_only=True).items():
                setattr(self, name, value)
            self._total_loss_scalar -= self._tr_loss.item()  # `train_loss` is that of the steps of this call
        elif checkpoint is not None:
            logger.warning(
                "%s holds no random state of process %d: training goes on from its weights, but not bit-identical",
                *(checkpoint, self.args.process_index),
            )

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        if skip_scheduler and self.state.global_step:  # `eval_on_start`, of a run that has started before
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)


def _check_same_model(own: Any, folder: str, sharded: bool) -> None:
    """Raises ValueError where a checkpoint is of another objective, labels or pooling than the configuration `own`."""
    saved = type(own).from_pretrained(folder)
    names = ["label_names", "objective", "pooling"]
    names += [] if own.objective == "classification" else ["loss", "loss_parameters"]
    names += [] if own.objective == "contrastive" else ["classification_loss", "classification_loss_parameters"]
    names += ["classification_weight"] if own.objective == "joint" else []
    names += ["feature_dim", "projection_dim"] if sharded else []  # others are told by their weights
    for name in names:
        wanted, there = getattr(own, name), getattr(saved, name)
        if json.dumps(wanted, sort_keys=True) != json.dumps(there, sort_keys=True):  # tuples are lists in a file
            raise ValueError(
                f"resume_from_checkpoint: {folder} has {name} {_shown(there)}, this run {_shown(wanted)}; to train on "
                "otherwise, load its model with from_pretrained and start a new training"
            )


def _shown(value: Any) -> str:
    if not isinstance(value, list):
        return repr(value)
    return ", ".join(value[:5]) + (f", ... ({len(value)})" if len(value) > 5 else "")
