"""`MLCLTrainer`: the Hugging Face Trainer with contrastive multi-label objectives and a fitted classifier."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch
from transformers import EvalPrediction
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.trainer_utils import TrainOutput
from transformers.utils import logging

from hf_mlcl.data import MultiLabelCollator, PreparedImages
from hf_mlcl.data.label_lists import LABEL_IDS, LabelLists, too_large_for_rows
from hf_mlcl.data.labels import canonical_labels
from hf_mlcl.data.preparation import cut_length
from hf_mlcl.data.views import Views
from hf_mlcl.evaluation import compute_metrics
from hf_mlcl.evaluation.classifier import PROTOCOLS
from hf_mlcl.evaluation.label_blocks import LabelScores
from hf_mlcl.evaluation.many_labels import decision_scores
from hf_mlcl.evaluation.thresholds import check_rule
from hf_mlcl.hub.card import comparison_text
from hf_mlcl.models import MLCLConfig
from hf_mlcl.models.adapters_mlcl import unwrapped_adapter
from hf_mlcl.models.modeling_mlcl import MLCLOutput, MLCLPreTrainedModel

from .arguments import MLCLTrainingArguments, trains
from .callbacks import SetEpoch
from .checkpoints import checkpoint_to_resume
from .classifier import (
    REFITTED,
    ClassifierReport,
    HeldOutScores,
    classifier_parameters,
    classifier_replaced,
    compare_encoders,
    encoder_scores,
    fit_and_write_classifier,
    fit_and_write_study,
    fit_probe,
    write_calibrated,
)
from .dataset_rows import (
    count_labels,
    dataset_labels,
    default_workers,
    has_known_labels,
    label_aware_sampler,
    sample_rows,
    sampled,
    select_rows,
    without_unlabelled,
)
from .evaluating_lists import ListEvaluatingTrainer
from .feature_arrays import by_length, features_in_file
from .publishing import PublishingTrainer
from .random_state import preserved_random_state
from .replacing import replaced
from .shards import reshard, whole

logger = logging.get_logger(__name__)

PROBE_EXAMPLES = 2000


class MLCLTrainer(ListEvaluatingTrainer, PublishingTrainer):
    """Trains an MLCL model: `train()` the objective, `fit_classifier()`, `evaluate(test)`, `push_to_hub()`.

    Takes what `transformers.Trainer` takes. Data sets give the model's inputs and `labels`, multi-hot rows as long as
    the model has labels, or `label_ids`, lists of label ids; the default collator pads and checks them.

    Without `compute_metrics`, evaluation reports all of `hf_mlcl.compute_metrics` at the model's thresholds, with
    head/medium/tail by the training counts, and where the classifier was calibrated as `macro_f1_uncalibrated` what it
    decided at 0.5 before (the study's protocol). Before the classifier is fitted, a probe scores the labels: a
    classifier fitted in the same way on the features of at most 2,000 training examples, so that
    `metric_for_best_model="macro_f1"` means something in the contrastive stage.

    The tokenizer is saved with the length that the training texts were cut to (`prepare_text` notes it), or that their
    longest rows show; the image processor with the size of the training images.

    With `peft_config`, such as peft's `LoraConfig(r=16)`, an adapter is added to the model (`model.add_adapter`) and
    trained with the heads; so is the model in what `peft.get_peft_model` returns.

    Raises:
        ValueError: For arguments that do not fit the model, too few examples for a batch, or several GPUs a process.
    """

    _tag_names = ["multi-label", "contrastive-learning"]

    def __init__(
        self, model: Any = None, args: MLCLTrainingArguments | None = None, *, peft_config: Any = None, **kwargs: Any
    ) -> None:
        args = MLCLTrainingArguments(output_dir="trainer_output") if args is None else args
        if not isinstance(args, MLCLTrainingArguments):
            raise ValueError(f"args: expected MLCLTrainingArguments, got {type(args).__name__}")
        if not isinstance(model, torch.nn.Module) and (model is not None or kwargs.get("model_init") is None):
            got = "None, and no model_init" if model is None else type(model).__name__
            raise ValueError(f"model: expected an MLCL model, got {got}; see from_encoder")
        given = kwargs.get("train_dataset")
        if isinstance(given, str):
            raise ValueError(f"train_dataset: expected a data set, got the text {given!r}")
        if isinstance(given, dict):
            raise ValueError(
                f"train_dataset: expected one data set, got a {type(given).__name__} of {', '.join(map(str, given))}; "
                "give one of them, and another as eval_dataset"
            )
        self._scoring = False
        self._before: tuple[dict[str, float], Any, Any] | None = None  # scores before training, and of which data sets
        self._held_out: HeldOutScores | None = None
        self._peft_config = peft_config
        self._frozen: list[torch.nn.Parameter] = []
        try:
            super().__init__(model=model, args=args, **kwargs)
        except RuntimeError as error:
            if "to be installed" not in str(error):
                raise
            raise ImportError(f"report_to: expected installed trackers, got {args.report_to}: {error}") from error
        except OSError as error:
            if not args.push_to_hub:
                raise
            raise OSError(f"push_to_hub: expected access to the Hub, got: {' '.join(str(error).split())}") from error
        if args.n_gpu > 1:
            raise ValueError(
                f"MLCLTrainer: expected one GPU a process, got {args.n_gpu}; start with accelerate launch or torchrun"
            )
        if args.batch_eval_metrics and self.compute_metrics is None:
            raise ValueError("batch_eval_metrics: expected False without compute_metrics of your own, got True")
        if self.compute_loss_func is not None:
            raise ValueError("compute_loss_func: expected None, got a function; the model's config names the loss")
        self._set_up_model()
        self._set_up_processor()
        if kwargs.get("data_collator") is None:
            self.data_collator = MultiLabelCollator(self.processing_class, len(self.core_model.config.label_names))
        if self.compute_metrics is None:
            self.compute_metrics = self._score
        if hasattr(self.train_dataset, "set_epoch"):
            self.add_callback(SetEpoch(self.train_dataset))

    def _set_up_model(self) -> None:
        """Writes the arguments into the model, which `model_init` makes anew for each training."""
        core, args = self.core_model, self.args
        if not isinstance(core, MLCLPreTrainedModel):
            raise ValueError(f"model: expected an MLCL model, got {type(core).__name__}; see from_encoder")
        if self.model is not core and hasattr(self.model, "get_base_model"):
            self.model = self.model_wrapped = unwrapped_adapter(self.model)
        if self._peft_config is not None:
            core.add_adapter(self._peft_config)
        core.check_encoder()
        self._held_out, self._report = None, None
        config: MLCLConfig = core.config  # type: ignore[assignment]
        args.write_objective(config)  # type: ignore[attr-defined]
        self._frozen = core.freeze_unused_parameters()
        try:
            self.check_memory()
        finally:
            self._thaw()  # until something is trained
        if self.train_dataset is not None:
            config.train_label_counts = count_labels(self.train_dataset, len(config.label_names))
        if trains(self.args):
            self._check_batches()

    def _set_up_processor(self) -> None:
        """Has the processor that is saved with the model cut texts, and size images, as those of training were."""
        processor: Any = self.processing_class
        self._max_length: int | None = None
        if isinstance(self.train_dataset, PreparedImages) and processor is not None:
            self.processing_class = self.train_dataset.image_processor  # `prepare_images` may have set another size
        if self.core_model.task != "text" or not hasattr(processor, "model_max_length"):
            return
        length, other = (cut_length(data, processor) for data in (self.train_dataset, self.eval_dataset))
        if length is not None and length != processor.model_max_length:
            logger.warning(
                "processing_class: the tokenizer cuts to %d tokens from now on, as the training examples are, not to "
                "%.4g; it is saved so",
                *(length, processor.model_max_length),
            )
            processor.model_max_length = length
        if length is not None and other is not None and other != length:
            logger.warning(
                "eval_dataset: expected texts cut to %d tokens, as those of train_dataset, got %d; scores and "
                "thresholds would be those of other inputs than the saved tokenizer gives",
                *(length, other),
            )
        self._max_length = self.core_model.limit_tokens(processor).model_max_length

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        processor: Any = self.processing_class
        if self._max_length is None or processor.model_max_length == self._max_length:
            return super()._save(output_dir, state_dict)
        logger.warning(
            "processing_class: the tokenizer is saved with the length of the training, %d tokens, though it cuts to "
            "%.4g now",
            *(self._max_length, processor.model_max_length),
        )
        with replaced(processor, model_max_length=self._max_length):
            super()._save(output_dir, state_dict)

    def _check_batches(self) -> None:
        args = self.args
        stream = isinstance(self.train_dataset, torch.utils.data.IterableDataset)
        if args.world_size > 1 and stream:
            raise ValueError(
                "train_dataset: expected one with a length on several processes, got a stream: its last batch is "
                "filled up with repeated examples, which would count as positives"
            )
        if stream and args.label_aware_batches:  # type: ignore[attr-defined]
            raise ValueError("label_aware_batches: expected a train_dataset with a length, got a stream")
        if args.world_size > 1 and self.train_dataset is not None and not args.dataloader_drop_last:
            raise ValueError(
                "dataloader_drop_last: expected True on several processes, got False: a last batch filled up with "
                "repeated examples would count them as positives"
            )
        if self.train_dataset is None or not hasattr(self.train_dataset, "__len__"):
            return
        size, batch = len(self.train_dataset), args.per_device_train_batch_size * args.world_size
        if size < batch and args.dataloader_drop_last:
            raise ValueError(
                f"per_device_train_batch_size: expected at most the {size} training examples in one step, got {batch}"
                f" ({args.per_device_train_batch_size} x {args.world_size} processes)"
            )

    # --- training ---

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains the objective; see `transformers.Trainer.train`. Leaves the model in evaluation mode.

        The classifier counts as trained where the objective trains it; an older fit no longer matches the encoder.
        Before the first step the encoder is measured as it is, on at most 2,000 training and 2,000 validation
        examples: `fit_classifier` tells whether training has made it better. With `num_train_epochs=0` nothing is
        trained: the encoder stays as it is, and `fit_classifier` gives it a classifier.

        Raises:
            ValueError: Where `resume_from_checkpoint` is no complete checkpoint, or one of another model.
        """
        if self.train_dataset is None:
            raise ValueError("train_dataset: expected one to train on, got None")
        resume_from_checkpoint = checkpoint_to_resume(resume_from_checkpoint, str(self.args.output_dir))
        if self.model is not None:  # a search makes it
            reshard(self.core_model)  # accelerate finds the optimizer of an earlier training by its shards
        self._before = self._held_out = None
        if not trains(self.args):
            if resume_from_checkpoint is not None:
                raise ValueError("resume_from_checkpoint: expected none with num_train_epochs 0, got a checkpoint")
            if self.model is None:
                raise ValueError("num_train_epochs: expected more than 0 in a search, got 0")
            self._forget_classifier()
            self.core_model.config.classifier_fitted = False
            self.core_model.eval()
            return TrainOutput(0, 0.0, {})
        if self.model is not None and self.model_init is None:
            self._before = self._encoder_before()
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            self._thaw()
            # `pipeline(model=trainer.model)` does not leave training mode by itself, and dropout would change scores.
            self.core_model.eval()

    def _hp_search_setup(self, trial: Any) -> None:
        # Called at the begin of every training, when the model is the one that will be trained.
        super()._hp_search_setup(trial)
        self._forget_classifier()
        self.core_model.config.trained = True
        self._frozen = self.core_model.freeze_unused_parameters()

    def _thaw(self) -> None:
        for parameter in self._frozen:  # not what the user had frozen
            parameter.requires_grad_(True)
        self._frozen = []

    def _forget_classifier(self) -> None:
        config = self.core_model.config
        config.classifier_fitted = config.objective != "contrastive"
        config.classifier_refitted = False
        config.thresholds = config.uncalibrated_half = None
        self._report, self._measured, self._held_out = None, {}, None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As the Trainer's, with the heads in groups of their own where `head_learning_rate` is given."""
        if self.optimizer is not None:
            return self.optimizer
        try:
            optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
        except ImportError as error:
            name = getattr(self.args.optim, "value", self.args.optim)
            raise ImportError(f"optim: expected the package it needs, got none for {name}: {error}") from error
        rate, core = getattr(self.args, "head_learning_rate", None), self.core_model
        if rate is not None:
            heads = {id(p) for head in (core.projection, core.prototypes, core.classifier) for p in head.parameters()}
            for group in list(optimizer.param_groups):
                chosen = [parameter for parameter in group["params"] if id(parameter) in heads]
                if chosen:
                    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in heads]
                    optimizer.add_param_group({**group, "params": chosen, "lr": rate})
        return optimizer

    # --- evaluation ---

    def _without_dropping(self, make_loader: Any, dataset: Any) -> Any:
        # The Trainer applies `dataloader_drop_last` to evaluation too and would lose the last examples silently, and
        # groups by length, so that predictions are not in the order of the data set.
        order = {"train_sampling_strategy": "random"} if hasattr(self.args, "train_sampling_strategy") else {}
        with replaced(self.args, dataloader_drop_last=False, **order):
            return make_loader(dataset)

    def _get_dataloader(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        workers: int | None = self.args.dataloader_num_workers
        with replaced(self.args, dataloader_num_workers=default_workers(dataset) if workers is None else workers):
            return super()._get_dataloader(dataset, *args, **kwargs)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        # A transform makes the model's inputs of columns that are none.
        transformed = isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"
        return dataset if transformed else super()._remove_unused_columns(dataset, description)

    def get_train_dataloader(self) -> Any:
        views = self.args.views  # type: ignore[attr-defined]
        with replaced(self, train_dataset=self.train_dataset if views == 1 else Views(self.train_dataset, views)):
            return super().get_train_dataloader()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self.args.label_aware_batches:  # type: ignore[attr-defined]
            return super()._get_train_sampler(train_dataset)
        # Consecutive batches of the order go to consecutive processes: those of a step are compared with each other.
        parts = 1 if self.accelerator.split_batches else self.args.world_size
        dataset = self.train_dataset if train_dataset is None else train_dataset
        return label_aware_sampler(dataset, self._train_batch_size * parts, self._order)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return self._without_dropping(super().get_eval_dataloader, eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        return self._without_dropping(super().get_test_dataloader, test_dataset)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        wanted = self.args.metric_for_best_model
        if wanted and f"eval_{wanted.removeprefix('eval_')}" not in metrics:
            known = [name.removeprefix("eval_") for name in metrics]
            near = difflib.get_close_matches(wanted.removeprefix("eval_"), known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"metric_for_best_model: expected one of {', '.join(known)}, got {wanted!r}{hint}")
        return super()._determine_best_metric(metrics, trial)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Metrics on a data set or a dict of them; see `transformers.Trainer.evaluate`, `hf_mlcl.compute_metrics`.

        On the validation examples that the final classifier was fitted on, too, the metrics are those of classifiers
        that were not: see `fit_classifier`.
        """
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        data = self.eval_dataset[data] if isinstance(data, str) and isinstance(self.eval_dataset, dict) else data
        with preserved_random_state(), self._scoring_classifier(), self._scoring_held_out(data):
            return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, test_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Logits, labels and metrics of a data set; see `transformers.Trainer.predict`, and `evaluate` for metrics."""
        with preserved_random_state(), self._scoring_classifier(), self._scoring_held_out(test_dataset):
            return super().predict(test_dataset, *args, **kwargs)

    def held_out_scores(self, dataset: Any) -> HeldOutScores | None:
        """Logits and labels of validation examples by classifiers that were not fitted on them.

        None for other examples than those that `fit_classifier` has refitted the classifier on: the model's own logits
        are as good.
        """
        fitted = self._held_out
        if fitted is None or fitted.dataset is not dataset:
            return None
        weight = whole(classifier_parameters(self.core_model)[0]).float().cpu()
        return fitted if torch.equal(weight, fitted.weight) else None  # not where the model was changed afterwards

    @contextmanager
    def _scoring_held_out(self, dataset: Any) -> Iterator[None]:
        """Measures the validation examples that the classifier was fitted on by their held-out scores."""
        held_out, compute = self.held_out_scores(dataset), self.compute_metrics
        refitted = self.core_model.config.classifier_refitted and not self._scoring
        if compute is None or (held_out is None and not (refitted and dataset is self.eval_dataset)):
            yield
            return
        args, others = self.args, compute != self._score and self.args.include_for_metrics
        if held_out is None or others or args.batch_eval_metrics or self.preprocess_logits_for_metrics is not None:
            logger.warning(
                "%s Scores by classifiers that have not seen them are there only in the Trainer that fitted it, and "
                "not beside preprocess_logits_for_metrics, batch_eval_metrics or include_for_metrics; "
                "fit_classifier(refit=False) keeps validation examples apart.",
                REFITTED,
            )
            yield
            return

        logits, labels = held_out.logits, held_out.labels
        if compute != self._score and isinstance(labels, LabelLists) and not too_large_for_rows(*labels.shape):
            logits, labels = np.asarray(logits), np.asarray(labels)  # as a function of the user's own gets them

        def metrics(prediction: EvalPrediction) -> Any:
            return compute(EvalPrediction(logits, labels, inputs=prediction.inputs, losses=prediction.losses))

        with replaced(self, compute_metrics=metrics):
            yield

    def _score(self, prediction: EvalPrediction) -> dict[str, float]:
        config = self.core_model.config
        scores = compute_metrics(
            prediction, thresholds=config.thresholds, train_label_counts=config.train_label_counts
        )
        if config.uncalibrated_half is not None:
            if isinstance(prediction.predictions, LabelScores):
                half = decision_scores(prediction.predictions, prediction.label_ids, config.uncalibrated_half)
            else:
                half = compute_metrics(prediction, thresholds=config.uncalibrated_half)
            scores |= {f"{name}_uncalibrated": float(half[name]) for name in ("macro_f1", "micro_f1", "hamming_loss")}
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
        train = sample_rows(without_unlabelled(self.train_dataset), PROBE_EXAMPLES, seed=self.args.seed)
        probe = fit_probe(*self.features(train, description="Probe"), device=self.args.device)
        self._scoring = True
        try:
            with classifier_replaced(self.core_model, probe.weight, probe.bias, probe.thresholds.per_label):
                yield
        finally:
            self._scoring = False

    def features(self, dataset: Any, description: str = "Features") -> tuple[np.ndarray, np.ndarray | LabelLists]:
        """Encoder features (N, feature_dim) float32 and labels (N, L) of a data set, from all processes.

        Labels are bool where all are known, else int8: 1, 0, and -100 where unknown; or the lists that the data set
        has. Features of a data set with a length that take more than `max_feature_memory` lie in a `numpy.memmap`: its
        file in `output_dir`, one for each process, is gone with it.

        Raises:
            ValueError: For a data set without labels.
        """

        return self._vectors(dataset, "features", self.core_model.config.feature_dim, description)

    def embeddings(self, dataset: Any, description: str = "Embeddings") -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (N, projection_dim) float32, not normalised, and labels (N, L) of a data set; see `features`.

        Raises:
            ValueError: For a data set with label lists, or without labels.
        """
        if LABEL_IDS in (getattr(dataset, "column_names", None) or []):
            raise ValueError(f"dataset: expected labels as rows, got the column {LABEL_IDS!r}")
        return self._vectors(dataset, "embeddings", self.core_model.config.projection_dim, description)

    def _vectors(self, dataset: Any, name: str, columns: int, description: str) -> tuple[np.ndarray, Any]:
        def compute(part: Any) -> tuple[np.ndarray, np.ndarray | LabelLists]:
            return self._outputs(part, name, description)

        rows = len(dataset) if hasattr(dataset, "__len__") else 0
        max_bytes = self.args.max_feature_memory * 2**30  # type: ignore[attr-defined]
        if 4 * rows * columns <= max_bytes:
            return compute(dataset)
        batch_size, folder = self.args.eval_batch_size * self.args.world_size, str(self.args.output_dir)
        return features_in_file(compute, dataset, columns, max_bytes=max_bytes, batch_size=batch_size, folder=folder)

    def _outputs(self, dataset: Any, name: str, description: str) -> tuple[Any, np.ndarray | LabelLists]:
        if hasattr(dataset, "without_augmentation"):
            dataset = dataset.without_augmentation()
        order = by_length(dataset)
        ordered = dataset if order is None else select_rows(dataset, order)
        ignored = [key for key in MLCLOutput.__dataclass_fields__ if key != name]
        # What the user has set for metrics must not reach the arrays that the classifier is fitted on.
        no_metrics = replaced(self, compute_metrics=None, preprocess_logits_for_metrics=None)
        whole = replaced(self.args, batch_eval_metrics=False, include_for_metrics=[], eval_do_concat_batches=True)
        with no_metrics, whole, preserved_random_state():
            loader = self.get_test_dataloader(ordered)
            output = self.evaluation_loop(loader, description, prediction_loss_only=False, ignore_keys=ignored)
        self.callback_handler.on_predict(self.args, self.state, self.control, {})  # closes the progress bar
        values, labels = output.predictions, output.label_ids
        if labels is None:
            raise ValueError(f"dataset: expected examples with labels or {LABEL_IDS}, got none")
        if isinstance(labels, LabelLists) and name == "embeddings":  # scores of all labels came in their place
            raise ValueError(f"dataset: expected labels as rows, got {LABEL_IDS!r}")
        if not isinstance(labels, LabelLists):
            values, labels = np.asarray(values, dtype=np.float32), canonical_labels(labels)
        elif name == "features":
            values = values.features
        if order is not None:
            back = np.argsort(order)
            values, labels = values[back], labels[back]
        return values, labels

    # --- the classifier ---

    def fit_classifier(
        self,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        *,
        linear_evaluation: bool = True,
        protocol: str = "logistic_regression",
        refit: bool = True,
        thresholds: str = "balanced",
    ) -> ClassifierReport:
        """Fits the classifier on the frozen encoder, tunes its thresholds, and writes both into the model.

        It is also the way to use an encoder as it is: without `train()`, or after it with `num_train_epochs=0`.

        Args:
            train_dataset: Labelled examples; by default the Trainer's.
            eval_dataset: Labelled validation examples, by which strengths and thresholds are chosen; by default the
                Trainer's.
            linear_evaluation: False keeps the classifier that the joint or classification objective has trained, and
                only calibrates it and tunes its thresholds.
            protocol: "logistic_regression", see `hf_mlcl.evaluation.fit_classifier`; or "study", the linear
                evaluation of arXiv 2412.00101, see `hf_mlcl.evaluation.fit_linear_evaluation`.
            refit: Whether the final logistic regression is fitted on training and validation examples; its thresholds
                come from scores of classifiers that have not seen the examples they score, and so does what `evaluate`
                then reports of `eval_dataset`. False, and the other ways to get a classifier, keep the validation
                examples apart.
            thresholds: "balanced", "macro" or "micro": what the thresholds serve, see
                `hf_mlcl.evaluation.tune_thresholds`.

        Returns:
            What was chosen and how well it does on the validation examples.

        Raises:
            ValueError: Where a data set is missing, or there is no trained classifier to keep.
        """
        if is_deepspeed_zero3_enabled():
            raise ValueError(
                "fit_classifier: expected whole parameters, got DeepSpeed ZeRO-3 shards; load the saved model"
            )
        check_rule("thresholds", thresholds)
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
        train_dataset = self.train_dataset if train_dataset is None else train_dataset
        eval_dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        needed = {"eval_dataset": eval_dataset} | ({"train_dataset": train_dataset} if linear_evaluation else {})
        for name, dataset in needed.items():
            if dataset is None or isinstance(dataset, dict):
                raise ValueError(f"{name}: expected one labelled data set, got {type(dataset).__name__}")
        core, device = self.core_model, self.args.device
        self._held_out = None
        if not linear_evaluation:
            if core.config.objective == "contrastive":
                raise ValueError(
                    "linear_evaluation: expected True after contrastive training, which trains no classifier, "
                    "got False"
                )
            logits = self._outputs(without_unlabelled(eval_dataset), "logits", "Logits of the validation examples")
            report = write_calibrated(core, *logits, thresholds=thresholds)
        else:
            # Features of examples without any known label would be computed for nothing.
            train = self.features(without_unlabelled(train_dataset), "Features of the training examples")
            validation = self.features(without_unlabelled(eval_dataset), "Features of the validation examples")
            if core.config.train_label_counts is None:  # the labels of a stream are known only now
                lists = train[1] if isinstance(train[1], LabelLists) else None
                counts = np.sum(train[1] == 1, axis=0) if lists is None else lists.counts()
                core.config.train_label_counts = counts.tolist()
            if protocol == "study":
                report = fit_and_write_study(
                    core, train, validation, thresholds=thresholds, seed=self.args.seed, device=device
                )
            else:
                report, fit = fit_and_write_classifier(
                    core, train, validation, refit=refit, thresholds=thresholds, device=device
                )
                if refit:
                    weight = whole(classifier_parameters(core)[0]).float().cpu().clone()
                    self._held_out = HeldOutScores(eval_dataset, weight, fit.validation_logits, fit.validation_labels)
            before = self._before
            if before is not None and before[1] is train_dataset and before[2] is eval_dataset:
                report = replace(report, comparison=self._compare(train, validation))
        core.eval()
        self._report, self._measured = report, {}
        return report

    # --- whether training has helped ---

    def _encoder_before(self) -> tuple[dict[str, float], Any, Any] | None:
        """Scores of the encoder as it is, on the examples of `_compare`; None where it cannot be compared."""
        both = (self.train_dataset, self.eval_dataset)
        if not all(hasattr(data, "__len__") and not isinstance(data, dict) for data in both):
            return None
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # parameters are sharded only when training begins
            return None
        parts = []
        for data in map(without_unlabelled, both):
            num_labels = self.core_model.config.num_labels
            labels = dataset_labels(data, num_labels) if len(data) > 1 and has_known_labels(data) else None
            if labels is None or labels.shape[1] != num_labels:
                return None  # what is wrong with them, training says
            rows = sampled(len(data), PROBE_EXAMPLES, seed=self.args.seed)
            features = self._bare_features(select_rows(data, rows))
            if not np.isfinite(features).all():
                return None
            parts.append((features, labels[rows]))
        if isinstance(parts[0][1], LabelLists) != isinstance(parts[1][1], LabelLists):
            return None
        scores = encoder_scores(parts[0], parts[1], self.args.device)
        return scores, *both

    def _bare_features(self, dataset: Any) -> np.ndarray:
        """Features (N, feature_dim) of the model as it is, before anything is wrapped or counted for training."""
        if hasattr(dataset, "without_augmentation"):
            dataset = dataset.without_augmentation()
        core, order, parts = self.core_model, by_length(dataset), []
        core.eval()
        with preserved_random_state(), torch.no_grad():
            for batch in self.get_test_dataloader(dataset if order is None else select_rows(dataset, order)):
                inputs = self._prepare_inputs(batch)
                inputs = {name: value for name, value in inputs.items() if name not in ("labels", LABEL_IDS)}
                with self.compute_loss_context_manager():
                    features = core(**inputs).features
                parts.append(self.accelerator.gather_for_metrics(features.float()).cpu())
        features = torch.cat(parts).numpy()
        return features if order is None else features[np.argsort(order)]

    def _compare(self, train: tuple[Any, Any], validation: tuple[Any, Any]) -> dict[str, Any]:
        """Compares the trained encoder with that before training, and says where it has become worse."""
        assert self._before is not None
        parts = []
        for features, labels in (train, validation):
            rows = sampled(len(features), PROBE_EXAMPLES, seed=self.args.seed)
            parts.append((features[rows], labels[rows]))
        after = encoder_scores(parts[0], parts[1], self.args.device)
        sizes = len(parts[0][0]), len(parts[1][0])
        comparison = compare_encoders(self._before[0], after, sizes)
        if comparison["worse"]:
            logger.warning("%s", comparison_text(comparison))
        return comparison
