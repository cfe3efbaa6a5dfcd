"""`MLCLTrainer`: the Hugging Face Trainer with contrastive multi-label objectives and a fitted classifier."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction, Trainer
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.modeling_utils import unwrap_model

from hf_mlcl.data import MultiLabelCollator, label_matrix
from hf_mlcl.evaluation import compute_metrics, fit_probe
from hf_mlcl.models import MLCLConfig
from hf_mlcl.models.modeling_mlcl import MLCLOutput, MLCLPreTrainedModel

from .arguments import MLCLTrainingArguments
from .callbacks import SetEpoch
from .classifier import ClassifierReport, classifier_replaced, fit_and_write_classifier, write_calibrated
from .random_state import preserved_random_state
from .references import gather_references, positive_statistics

PROBE_EXAMPLES = 2000


class MLCLTrainer(Trainer):
    """Trains an MLCL model: `train()` the objective, `fit_classifier()`, `evaluate(test)`, `push_to_hub()`.

    Takes what `transformers.Trainer` takes. Data sets give the model's inputs and `labels`, multi-hot rows as long as
    the model has labels; the default collator pads and checks them.

    Without `compute_metrics`, evaluation reports all of `hf_mlcl.compute_metrics` at the model's thresholds, with
    head/medium/tail by the training counts, and as `macro_f1_uncalibrated` what the classifier decided at 0.5 before
    its calibration (the study's protocol). Before the classifier is fitted, a cheap probe (ridge on the features of at
    most 2,000 training examples) scores the labels, so that `metric_for_best_model="macro_f1"` means something in the
    contrastive stage.

    Raises:
        ValueError: For arguments that do not fit the model, too few examples for a batch, or several GPUs a process.
    """

    _tag_names = ["multi-label", "contrastive-learning"]

    def __init__(self, model: Any = None, args: MLCLTrainingArguments | None = None, **kwargs: Any) -> None:
        args = MLCLTrainingArguments(output_dir="trainer_output") if args is None else args
        if not isinstance(args, MLCLTrainingArguments):
            raise ValueError(f"args: expected MLCLTrainingArguments, got {type(args).__name__}")
        self._sums: dict[str, Tensor] = {}
        self._sum_count = 0
        self._scoring = False
        super().__init__(model=model, args=args, **kwargs)
        core: Any = self.core_model
        if not isinstance(core, MLCLPreTrainedModel):
            raise ValueError(f"model: expected an MLCL model, got {type(core).__name__}; see from_encoder")
        config: MLCLConfig = core.config  # type: ignore[assignment]
        if args.n_gpu > 1:
            raise ValueError(
                f"MLCLTrainer: expected one GPU a process, got {args.n_gpu}; start with accelerate launch or torchrun"
            )
        args.write_objective(config)
        core.freeze_unused_parameters()
        if kwargs.get("data_collator") is None:
            self.data_collator = MultiLabelCollator(self.processing_class, len(config.label_names))
        if self.compute_metrics is None:
            self.compute_metrics = self._score
        if self.train_dataset is not None:
            config.train_label_counts = count_labels(self.train_dataset)
        if hasattr(self.train_dataset, "set_epoch"):
            self.add_callback(SetEpoch(self.train_dataset))
        self._check_batches()

    @property
    def core_model(self) -> Any:
        """The model itself, without what adapters, data parallelism or compilation wrap around it."""
        model: Any = unwrap_model(self.model)  # type: ignore[arg-type]
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _check_batches(self) -> None:
        args = self.args
        if self.train_dataset is None or not hasattr(self.train_dataset, "__len__"):
            return
        size, batch = len(self.train_dataset), args.per_device_train_batch_size * args.world_size
        if size < batch and args.dataloader_drop_last:
            raise ValueError(
                f"per_device_train_batch_size: expected at most the {size} training examples in one step, got {batch}"
                f" ({args.per_device_train_batch_size} x {args.world_size} processes)"
            )
        if args.world_size > 1 and not args.dataloader_drop_last:
            raise ValueError(
                "dataloader_drop_last: expected True on several processes, got False: a last batch filled up with "
                "repeated examples would count them as positives"
            )

    # --- training ---

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains the objective; see `transformers.Trainer.train`. Leaves the model in evaluation mode.

        The classifier counts as trained where the objective trains it; an older fit no longer matches the encoder.
        """
        config = self.core_model.config
        config.classifier_fitted = config.objective != "contrastive"
        config.thresholds = config.uncalibrated_half = None
        result = super().train(*args, **kwargs)
        # `pipeline(model=trainer.model)` does not leave training mode by itself, and dropout would change every score.
        self.core_model.eval()
        return result

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective over the references of all processes: a mean over anchors, never over `num_items_in_batch`."""
        if "labels" not in inputs:
            raise ValueError(f"labels: expected a column of multi-hot labels, got the inputs {', '.join(inputs)}")
        labels = inputs["labels"]
        outputs: Any = model(**{name: value for name, value in inputs.items() if name != "labels"})
        core = self.core_model
        if model.training and core.config.objective != "classification":
            embeddings, all_labels = gather_references(outputs.embeddings, labels)
        else:
            embeddings, all_labels = outputs.embeddings, labels
        losses = core.objective_losses(outputs, labels, embeddings, all_labels)
        if model.training:
            parts = {name: part.detach() for name, part in losses.items() if name != "loss"}
            self._record(parts | positive_statistics(all_labels))
        return (losses["loss"], outputs) if return_outputs else losses["loss"]

    def _record(self, values: dict[str, Tensor]) -> None:
        # Sums stay on the device: reading them here would wait for it at every step.
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._sum_count += 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the parts of the loss and the positives of the batches, averaged since the last log."""
        if "loss" in logs and self._sum_count:
            logs.update({name: round(float(value) / self._sum_count, 4) for name, value in self._sums.items()})
            self._sums, self._sum_count = {}, 0
        super().log(logs, start_time)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As the Trainer's, with the heads in groups of their own where `head_learning_rate` is given."""
        if self.optimizer is not None:
            return self.optimizer
        optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
        rate, core = getattr(self.args, "head_learning_rate", None), self.core_model
        if rate is not None:
            heads = {id(p) for head in (core.projection, core.prototypes, core.classifier) for p in head.parameters()}
            for group in list(optimizer.param_groups):
                chosen = [parameter for parameter in group["params"] if id(parameter) in heads]
                if chosen:
                    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in heads]
                    optimizer.add_param_group({**group, "params": chosen, "lr": rate})
        return optimizer

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self._load_weights(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if not self._load_weights(str(self.state.best_model_checkpoint)):
            super()._load_best_model()

    def _load_weights(self, folder: str) -> bool:
        """Loads a checkpoint into the model as `from_pretrained` reads it; False where it is sharded or an adapter.

        Checkpoints keep older names of some encoders' weights (ViT's among them). The Trainer loads by the names in
        the file, skips what it does not find, and would go on training from weights that were never loaded.
        """
        core = self.core_model
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or unwrap_model(self.model) is not core:  # type: ignore
            return False
        loaded = type(core).from_pretrained(folder, config=core.config, dtype=core.dtype)
        core.load_state_dict(loaded.state_dict())
        return True

    # --- evaluation ---

    def _without_dropping(self, make_loader: Any, dataset: Any) -> Any:
        # The Trainer applies `dataloader_drop_last` to evaluation too and would lose the last examples silently.
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return make_loader(dataset)
        finally:
            self.args.dataloader_drop_last = drop_last

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return self._without_dropping(super().get_eval_dataloader, eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        return self._without_dropping(super().get_test_dataloader, test_dataset)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Metrics on a data set or a dict of them; see `transformers.Trainer.evaluate`, `hf_mlcl.compute_metrics`."""
        with preserved_random_state(), self._scoring_classifier():
            return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, test_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Logits, labels and metrics of a data set; see `transformers.Trainer.predict`."""
        with preserved_random_state(), self._scoring_classifier():
            return super().predict(test_dataset, *args, **kwargs)

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        config = self.core_model.config
        scores = compute_metrics(
            prediction, thresholds=config.thresholds, train_label_counts=config.train_label_counts
        )
        if config.uncalibrated_half is not None:
            half = compute_metrics(prediction, thresholds=config.uncalibrated_half)
            scores |= {f"{name}_uncalibrated": half[name] for name in ("macro_f1", "micro_f1", "hamming_loss")}
        return scores

    @contextmanager
    def _scoring_classifier(self) -> Iterator[None]:
        """Puts the probe in the classifier's place where the classifier was not fitted yet."""
        if self.core_model.config.classifier_fitted or self._scoring:
            yield
            return
        if self.train_dataset is None:
            raise ValueError(
                "train_dataset: expected one to score an unfitted classifier, got None; see fit_classifier"
            )
        size = len(self.train_dataset)  # type: ignore[arg-type]
        chosen = np.sort(np.random.default_rng(self.args.seed).permutation(size)[:PROBE_EXAMPLES])
        features, labels = self.features(select_rows(self.train_dataset, chosen), description="Probe")
        probe = fit_probe(features, labels)
        self._scoring = True
        try:
            with classifier_replaced(self.core_model, probe.weight, probe.bias, probe.thresholds):
                yield
        finally:
            self._scoring = False

    def features(self, dataset: Any, description: str = "Features") -> tuple[np.ndarray, np.ndarray]:
        """Encoder features (N, feature_dim) float32 and labels (N, L) bool of a data set, from all processes."""
        return self._outputs(dataset, "features", description)

    def _outputs(self, dataset: Any, name: str, description: str) -> tuple[np.ndarray, np.ndarray]:
        if hasattr(dataset, "without_augmentation"):
            dataset = dataset.without_augmentation()
        order = _by_length(dataset)
        ordered = dataset if order is None else select_rows(dataset, order)
        ignored = [key for key in MLCLOutput.__dataclass_fields__ if key != name]
        compute, self.compute_metrics = self.compute_metrics, None
        try:
            with preserved_random_state():
                loader = self.get_test_dataloader(ordered)
                output = self.evaluation_loop(loader, description, prediction_loss_only=False, ignore_keys=ignored)
            self.callback_handler.on_predict(self.args, self.state, self.control, {})  # closes the progress bar
        finally:
            self.compute_metrics = compute
        values, labels = np.asarray(output.predictions, dtype=np.float32), np.asarray(output.label_ids) > 0
        if order is not None:
            back = np.argsort(order)
            values, labels = values[back], labels[back]
        return values, labels

    # --- the classifier ---

    def fit_classifier(
        self, train_dataset: Any = None, eval_dataset: Any = None, *, linear_evaluation: bool = True
    ) -> ClassifierReport:
        """Fits the classifier on the frozen encoder, calibrates it, tunes thresholds, and writes all into the model.

        Args:
            train_dataset: Labelled examples; by default the Trainer's.
            eval_dataset: Labelled validation examples that choose the grid point of each label, the calibration and
                the thresholds; by default the Trainer's.
            linear_evaluation: False keeps the classifier that the joint or classification objective has trained, and
                only calibrates it and tunes its thresholds.

        Returns:
            What was chosen and how well it does on the validation examples.

        Raises:
            ValueError: Where a data set is missing, or there is no trained classifier to keep.
        """
        if is_deepspeed_zero3_enabled():
            raise ValueError(
                "fit_classifier: expected whole parameters, got DeepSpeed ZeRO-3 shards; load the saved model"
            )
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        eval_dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        needed = {"eval_dataset": eval_dataset} | ({"train_dataset": train_dataset} if linear_evaluation else {})
        for name, dataset in needed.items():
            if dataset is None or isinstance(dataset, dict):
                raise ValueError(f"{name}: expected one labelled data set, got {type(dataset).__name__}")
        core = self.core_model
        if linear_evaluation:
            train = self.features(train_dataset, "Features of the training examples")
            validation = self.features(eval_dataset, "Features of the validation examples")
            report = fit_and_write_classifier(core, *train, *validation, seed=self.args.seed, device=self.args.device)
        else:
            if core.config.objective == "contrastive":
                raise ValueError(
                    "linear_evaluation: expected True after contrastive training, which trains no classifier"
                )
            report = write_calibrated(
                core, *self._outputs(eval_dataset, "logits", "Logits of the validation examples")
            )
        core.eval()
        return report


def select_rows(dataset: Any, indices: np.ndarray) -> Any:
    """Some rows of a data set, by its own `select` where it has one."""
    if hasattr(dataset, "select"):
        return dataset.select(indices.tolist())
    return torch.utils.data.Subset(dataset, indices.tolist())


def count_labels(dataset: Any) -> list[int] | None:
    """How often each label occurs in a data set; None where its labels cannot be had as a whole."""
    labels = getattr(dataset, "labels", None)
    if labels is None and isinstance(dataset, datasets.Dataset) and "labels" in dataset.column_names:
        labels = label_matrix(dataset)
    return None if labels is None else np.asarray(labels).sum(0).astype(int).tolist()


def _by_length(dataset: Any) -> np.ndarray | None:
    """Order of a tokenised data set by length, which saves padding; None where there is nothing to sort by."""
    if "input_ids" not in (getattr(dataset, "column_names", None) or []):
        return None
    import pyarrow.compute

    column = dataset.with_format("arrow").select_columns("input_ids")[:].column(0)
    return np.argsort(pyarrow.compute.list_value_length(column).to_numpy(), kind="stable")[::-1]
