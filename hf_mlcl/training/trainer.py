"""`MLCLTrainer`: the Hugging Face Trainer with contrastive multi-label objectives and a fitted classifier."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import datasets
import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction, set_seed
from transformers.integrations import is_deepspeed_zero3_enabled, is_optuna_available
from transformers.trainer_utils import BestRun, TrainOutput
from transformers.utils import logging

from hf_mlcl.data import Labels, MultiLabelCollator, prepare_text
from hf_mlcl.data.collator import Numbered, NumberedCollator
from hf_mlcl.data.images import PreparedImages
from hf_mlcl.data.labels import LABEL_IDS
from hf_mlcl.data.sampler import Views
from hf_mlcl.data.text import cut_length
from hf_mlcl.evaluation import LinearScores, compute_metrics
from hf_mlcl.evaluation.compute_metrics import decision_scores
from hf_mlcl.evaluation.probe import PROTOCOLS
from hf_mlcl.evaluation.thresholds import check_rule
from hf_mlcl.hub.card import comparison_text
from hf_mlcl.messages import nearest
from hf_mlcl.models import MLCLConfig
from hf_mlcl.models.adapters_mlcl import unwrapped_adapter
from hf_mlcl.models.modeling_mlcl import MLCLOutput, MLCLPreTrainedModel

from .arguments import MLCLTrainingArguments, trains
from .callbacks import FollowModel, SetEpoch
from .checkpoints import checkpoint_to_resume
from .checks import check_batches, check_given, check_loss_options, errors_of_set_up, less_than_a_batch
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
    write_initial_bias,
)
from .dataset_rows import (
    as_examples,
    count_labels,
    dataset_labels,
    has_known_labels,
    label_aware_sampler,
    sample_rows,
    sampled,
    select_rows,
    without_unlabelled,
)
from .default import names_are_texts
from .feature_arrays import features_in_file, longest_first
from .key_queue import KeyQueue, MomentumEncoder
from .progress import Progress, bar
from .publishing import PublishingTrainer
from .random_state import preserved_random_state
from .replacing import replaced
from .search import checked_space, default_hp_space, default_objective
from .shards import reshard, whole
from .step import (
    LOSS_INPUTS,
    BatchLabels,
    cached_backward,
    chunks,
    evaluation_loss,
    model_inputs,
    sorted_by_length,
    training_losses,
)

logger = logging.get_logger(__name__)

PROBE_EXAMPLES = 2000
MOST_NAMES = 10_000  # labels whose names are read for their classifier
QUEUE_STATE = "references.pt"  # of a checkpoint


class MLCLTrainer(PublishingTrainer):
    """Trains an MLCL model: `train()` the objective, `fit_classifier()`, `evaluate(test)`, `push_to_hub()`.

    Takes what `transformers.Trainer` takes. Datasets give the model's inputs and `labels`, multi-hot rows as long as
    the model has labels, or `label_ids`, lists of label ids; the default collator pads and checks them. Of the latter
    predictions are `LinearScores`, logits that are made when they are asked for; `compute_metrics` of your own gets
    arrays where they take less than 1 GiB.

    Without `compute_metrics`, evaluation reports all of `hf_mlcl.compute_metrics` at the model's thresholds, with
    head/medium/tail by the training counts, and where the classifier was calibrated as `macro_f1_uncalibrated` what it
    decided at 0.5 before (the study's protocol). Before the classifier is fitted, a probe scores the labels: a
    classifier fitted in the same way on the features of at most 2,000 training examples, so that
    `metric_for_best_model="macro_f1"` means something in the contrastive stage.

    The tokenizer is saved with the length that the training texts were cut to (`prepare_text` notes it), or that their
    longest rows show; the image processor with the size of the training images.

    With `peft_config`, such as peft's `LoraConfig(r=16)`, an adapter is added to the model (`model.add_adapter`) and
    trained with the heads; so is the model in what `peft.get_peft_model` returns.

    `loss` is a loss of your own, a module called as `loss(logits, labels)` or, where its first argument is called
    `embeddings`, `loss(embeddings, labels, prototypes)`; see `hf_mlcl.losses.register_loss`. It takes the place of the
    contrastive or of the classification loss, and where the arguments name no objective, it alone is trained.

    Raises:
        ValueError: For arguments that do not fit the model, too few examples for a batch, or several GPUs per process.
    """

    _tag_names = ["multi-label", "contrastive-learning"]

    _running_sums = (*PublishingTrainer._running_sums, "_sums", "_sum_count", "_choices")
    objective: Any
    _of_lists = False  # whether the last examples that were evaluated had `label_ids`
    _in_place_of_logits = False  # and whether features came in the place of their logits

    def __init__(
        self,
        model: Any = None,
        args: MLCLTrainingArguments | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., Any] | None = None,
        compute_loss_func: Any = None,
        compute_metrics: Callable[[EvalPrediction], dict] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[..., Any] | None = None,
        *,
        peft_config: Any = None,
        loss: nn.Module | None = None,
    ) -> None:
        args = MLCLTrainingArguments(output_dir="trainer_output") if args is None else args
        check_given(args, model, model_init, train_dataset, loss)
        if compute_loss_func is not None:
            raise ValueError("compute_loss_func is not supported: set loss=..., a name or a loss of your own")
        self._scoring = False
        self.compare_encoder = True  # whether `train` measures the encoder as it is, for `fit_classifier` to compare
        self._before: tuple[dict[str, float], Any, Any] | None = None  # scores before training, and of which datasets
        self._held_out: HeldOutScores | None = None
        self._peft_config, self._own_loss = peft_config, loss
        self._unused: list[str] = []  # names of parameters that the objective gives no gradient
        self._frozen: list[str] = []  # those of them that are frozen while training
        self._queue: KeyQueue | None = None
        self._sums: dict[str, Tensor] = {}  # of what is logged of each step, since the last log
        self._sum_count = 0
        self._choices = 0  # how many times absent labels were drawn in this training
        self._args_before: dict[str, Any] | None = None  # of a search
        with errors_of_set_up(args):
            super().__init__(
                model=model,
                args=args,
                data_collator=data_collator,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                model_init=model_init,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
                preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            )
        if args.n_gpu > 1:
            raise ValueError(
                "MLCLTrainer: DataParallel is not supported. Launch with `accelerate launch` or torchrun, or set "
                "CUDA_VISIBLE_DEVICES=0"
            )
        if args.batch_eval_metrics and self.compute_metrics is None:
            raise ValueError("batch_eval_metrics needs compute_metrics of your own")
        self._progress = Progress.of(self)
        self._made: list[tuple[Any, Any]] = []  # examples that were made of raw data, beside these
        self.train_dataset = self._examples(self.train_dataset)
        self.eval_dataset = self._examples(self.eval_dataset)
        self._set_up_model()
        self._set_up_processor()
        self.core_model.processor = self.processing_class  # so that the model predicts raw inputs as it was trained
        if data_collator is None:
            self.data_collator = MultiLabelCollator(self.processing_class, len(self.core_model.config.label_names))
        if self.compute_metrics is None:
            self.compute_metrics = self._score
        if self._has_queue and args.momentum is not None:
            self.add_callback(FollowModel(self))
        if hasattr(self.train_dataset, "set_epoch"):
            self.add_callback(SetEpoch(self.train_dataset))

    def _examples(self, data: Any, keep: bool = True) -> Any:
        """What a step takes of a dataset that may be raw; the same object for data that were kept."""
        for raw, made in self._made:
            if raw is data:
                return made
        core = self.core_model
        task, names = getattr(core, "task", ""), getattr(core.config, "label_names", ())
        made = as_examples(data, self.processing_class, task, names)
        if keep and made is not data:
            self._made.append((data, made))
        return made

    def _set_up_model(self) -> None:
        """Writes the arguments into the model, which `model_init` makes anew for each training."""
        core, args = self.core_model, self.args
        if not isinstance(core, MLCLPreTrainedModel):
            raise ValueError(f"model must be an MLCL model, got {type(core).__name__}; see from_encoder")
        if self.model is not core and hasattr(self.model, "get_base_model"):
            self.model = self.model_wrapped = unwrapped_adapter(self.model)
        if self._peft_config is not None:
            core.add_adapter(self._peft_config)
        core.check_encoder()
        self._held_out, self._report = None, None
        config: MLCLConfig = core.config  # type: ignore[assignment]
        args.write_objective(config, self._own_loss)  # type: ignore[attr-defined]
        if self.train_dataset is not None:
            counts = count_labels(self.train_dataset, len(config.label_names))
            config.train_label_counts, config.num_train_examples = counts
        core.build_losses(self._own_loss)
        core.contrastive_loss.count_positives = True
        core.length_sorted_chunks = self._may_chunk(core)
        self._unused = core.freeze_unused_parameters()
        try:
            check_loss_options(self)
        finally:
            self._set_frozen(self._unused, False)  # until something is trained
        if trains(self.args):
            check_batches(self)

    def _may_chunk(self, core: MLCLPreTrainedModel) -> bool:
        """Whether the encoder may run over chunks of a batch: not where it is sharded or has statistics of batches."""
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        statistics = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in core.encoder.modules())
        return self.args.length_sorted_chunks and not sharded and not statistics  # type: ignore[attr-defined]

    def _set_frozen(self, names: list[str], frozen: bool) -> None:
        parameters = dict(self.core_model.named_parameters())
        for name in names:
            parameters[name].requires_grad_(not frozen)

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
                "eval_dataset: its texts are cut to %d tokens, those of train_dataset to %d; scores and thresholds "
                "would be those of other inputs than the saved tokenizer gives",
                *(other, length),
            )
        self._max_length = self.core_model.limit_tokens(processor).model_max_length

    @contextmanager
    def processor_as_trained(self) -> Iterator[None]:
        """Lets the tokenizer cut texts as those of training were, though it may cut otherwise now."""
        processor: Any = self.processing_class
        if self._max_length is None or processor.model_max_length == self._max_length:
            yield
            return
        logger.warning(
            "processing_class: the tokenizer is saved with the length of the training, %d tokens, though it cuts to "
            "%.4g now",
            *(self._max_length, processor.model_max_length),
        )
        with replaced(processor, model_max_length=self._max_length):
            yield

    # --- training ---

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Trains the objective; see `transformers.Trainer.train`. Leaves the model in evaluation mode.

        The classifier counts as trained where the objective trains it; an older fit no longer matches the encoder.
        Before the first step the encoder is measured as it is, on at most 2,000 training and 2,000 validation
        examples: `fit_classifier` tells whether training has made it better. With `num_train_epochs=0` nothing is
        trained: the encoder stays as it is, and `fit_classifier` gives it a classifier.

        Raises:
            ValueError: Where `resume_from_checkpoint` is no complete checkpoint, or one of another model.
        """
        if self.train_dataset is None:
            raise ValueError("train_dataset: there is none to train on")
        resume_from_checkpoint = checkpoint_to_resume(resume_from_checkpoint, str(self.args.output_dir))
        if self.model is not None:  # a search makes it
            reshard(self.core_model)  # accelerate finds the optimizer of an earlier training by its shards
        self._before = self._held_out = None
        self._choices = 0
        if not trains(self.args):
            if resume_from_checkpoint is not None:
                raise ValueError("resume_from_checkpoint: nothing is trained with num_train_epochs 0")
            if self.model is None:
                raise ValueError("num_train_epochs must be above 0 in a search")
            self._forget_classifier()
            self.core_model.config.classifier_fitted = False
            self.core_model.eval()
            return TrainOutput(0, 0.0, {})
        if self.compare_encoder and self.model is not None and self.model_init is None:
            self._before = self._encoder_before()
        try:
            result = super().train(resume_from_checkpoint, trial, *args, **kwargs)
        finally:
            self._set_frozen(self._frozen, False)
            self._frozen, self._queue = [], None
            # `pipeline(model=trainer.model)` does not leave training mode by itself, and dropout would change scores.
            self.core_model.eval()
        if trial is not None:
            self.fit_classifier()
            self.objective = self.compute_objective(self.evaluate())
        return result

    def training_set_up(self) -> None:
        if self.model_init is not None:
            self._set_up_model()
        config = self.core_model.config
        if config.objective != "contrastive" and not config.classifier_fitted:
            write_initial_bias(self.core_model)  # a checkpoint's biases come after it
        self._forget_classifier()
        config.trained = True
        trained = {name for name, parameter in self.core_model.named_parameters() if parameter.requires_grad}
        self._frozen = [name for name in self._unused if name in trained]  # the user may have frozen some
        self._set_frozen(self._frozen, True)

    def training_prepared(self, checkpoint: str | None) -> None:
        args: Any = self.args
        if not self._has_queue:
            return
        encoder = None
        if args.momentum is not None:  # only now are the weights those that training starts from
            encoder = MomentumEncoder(self.core_model, args.momentum, self._parts, self.accelerator.autocast)
        self._queue = KeyQueue(args.queue_size, encoder)
        if checkpoint is None:
            return
        path = Path(checkpoint) / QUEUE_STATE
        if path.is_file():  # torch knows no "cpu:0"
            self._queue.load_state_dict(torch.load(path, map_location=args.device.type, weights_only=True))
        else:
            logger.warning("%s holds no memory queue: it starts empty, keys come from the present weights", checkpoint)

    def save_state(self, folder: str) -> None:
        if self._queue is not None and self.args.should_save:  # it is the same in all processes
            torch.save(self._queue.state_dict(), Path(folder) / QUEUE_STATE)

    def _forget_classifier(self) -> None:
        config = self.core_model.config
        config.classifier_fitted = config.objective != "contrastive"
        config.classifier_refitted = False
        config.thresholds = config.uncalibrated_half = None
        self._report, self._measured, self._held_out = None, {}, None

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        # Decay would pull a learnable temperature towards 1.
        return [name for name in super().get_decay_parameter_names(model) if not name.endswith("log_temperature")]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As the Trainer's, with the heads in groups of their own where their learning rate is another one."""
        if self.optimizer is not None:
            return self.optimizer
        try:
            optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
        except ImportError as error:
            name = getattr(self.args.optim, "value", self.args.optim)
            raise ImportError(f"optim: {name} needs a package that is not installed: {error}") from error
        encoder_rate = self.args.learning_rate
        rate, core = getattr(self.args, "head_learning_rate", None), self.core_model
        if rate is None:  # heads start at random: at the rate of a pretrained encoder they hardly move
            rate = min(20 * encoder_rate, max(1e-3, encoder_rate))
        if rate != encoder_rate:
            heads = {id(p) for head in (core.projection, core.prototypes, core.classifier) for p in head.parameters()}
            for group in list(optimizer.param_groups):
                chosen = [parameter for parameter in group["params"] if id(parameter) in heads]
                if chosen:
                    group["params"] = [parameter for parameter in group["params"] if id(parameter) not in heads]
                    optimizer.add_param_group({**group, "params": chosen, "lr": rate})
        return optimizer

    # --- a step ---

    @property
    def _has_queue(self) -> bool:
        args: Any = self.args
        return args.queue_size > 0 or args.momentum is not None

    def _parts(self, inputs: Any) -> list[dict[str, Any]]:
        """The model's inputs in parts that cost no more than `gradient_cache_chunk_size` long rows, or in one."""
        labels: Any = BatchLabels.of(inputs)
        rows, size, core = len(labels), self.args.gradient_cache_chunk_size, self.core_model  # type: ignore[attr-defined]
        kept = model_inputs(inputs, core, training=True)
        return list(chunks(kept, rows, size or max(rows, 1), equal_work=bool(size and core.length_sorted_chunks)))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One forward and backward pass over a batch; see `transformers.Trainer.training_step`."""
        size, labels = self.args.gradient_cache_chunk_size, BatchLabels.of(inputs)  # type: ignore[attr-defined]
        if size is None or labels is None or len(labels) <= size:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        optimizer: Any = self.optimizer
        if callable(getattr(optimizer, "train", None)):  # of optimizers without a schedule
            optimizer.train()
        inputs = self._prepare_inputs(inputs)
        if self.core_model.length_sorted_chunks:
            inputs = sorted_by_length(inputs, len(labels))
        # A step of gradient accumulation before the last one is inside of `no_sync` already. The accelerator's does
        # nothing in one process, whether its model is wrapped or not.
        no_sync = getattr(model, "no_sync", None) or (
            (lambda: self.accelerator.no_sync(model)) if self.accelerator.sync_gradients else nullcontext
        )
        return cached_backward(
            model,
            self._parts(inputs),
            lambda outputs: self._training_loss(outputs, inputs) / self.current_gradient_accumulation_steps,
            names=LOSS_INPUTS[self.core_model.config.objective],
            backward=self.accelerator.backward,
            forward_context=self.compute_loss_context_manager,
            no_sync=no_sync,
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The objective over the examples of all processes: a mean over anchors, never over `num_items_in_batch`."""
        if BatchLabels.of(inputs) is None:
            raise ValueError(f"the batch has neither labels nor {LABEL_IDS}, only {', '.join(inputs)}")
        core = self.core_model
        outputs: Any = model(**model_inputs(inputs, core, training=model.training))
        loss = self._training_loss(outputs, inputs) if model.training else evaluation_loss(core, outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def _training_loss(self, outputs: Any, inputs: dict[str, Any]) -> Tensor:
        """The objective of a training batch, of which this process holds `outputs`; its parts go into the log."""
        args: Any = self.args
        core = self.core_model

        def generator(device: torch.device) -> torch.Generator:
            # Processes draw alike, and a resumed run goes on with the draws.
            return torch.Generator(device).manual_seed((args.seed << 32) + self._choices)

        losses = training_losses(
            core,
            outputs,
            inputs,
            queue=self._queue,
            sample_size=args.prototype_sample_size,
            generator=generator,
            # This sampler alone gives processes batches of different sizes.
            equal_parts=getattr(args, "train_sampling_strategy", None) != "batch_rebalance",
        )
        self._choices += args.prototype_sample_size is not None
        contrasts = core.config.objective != "classification"
        statistics = getattr(core.contrastive_loss, "statistics", {}) if contrasts else {}
        # Sums stay on the device: reading them here would wait for it at every step.
        for name, value in {**losses, **statistics}.items():
            if name != "loss":
                self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._sum_count += 1
        return losses["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the parts of the loss and the positives of the batches, averaged since the last log."""
        if "loss" in logs and self._sum_count:
            logs.update({name: round(float(value) / self._sum_count, 4) for name, value in self._sums.items()})
            temperature = getattr(self.core_model.contrastive_loss, "log_temperature", None)
            if temperature is not None:
                logs["temperature"] = round(temperature.detach().exp().item(), 4)
            self._sums, self._sum_count = {}, 0
        super().log(logs, start_time)

    # --- data ---

    def get_train_dataloader(self) -> Any:
        dataset, collator, views = self.train_dataset, self.data_collator, self.args.views  # type: ignore[attr-defined]
        data = dataset if views == 1 else Views(dataset, views)
        if self._has_queue:
            if isinstance(data, datasets.Dataset):
                data = self._remove_unused_columns(data, description="training")
            else:
                collator = self._get_collator_with_removed_columns(collator, description="training")
            data, collator = Numbered(data), NumberedCollator(collator)
        # Few examples are one batch, which is then not dropped.
        drop = self.args.dataloader_drop_last and not less_than_a_batch(dataset, self.args)
        with (
            replaced(self, train_dataset=data, data_collator=collator),
            replaced(self.args, dataloader_drop_last=drop),
        ):
            return super().get_train_dataloader()

    def make_train_sampler(self) -> Any:
        if not self.args.label_aware_batches:  # type: ignore[attr-defined]
            return None
        # Consecutive batches of the order go to consecutive processes: those of a step are compared with each other.
        parts = 1 if self.accelerator.split_batches else self.args.world_size
        return label_aware_sampler(self.train_dataset, self._train_batch_size * parts, self._order)

    def _evaluation_loader(self, make_loader: Any, dataset: Any) -> Any:
        # The Trainer applies `dataloader_drop_last` to evaluation too and would lose the last examples silently, and
        # groups by length, so that predictions are not in the order of the dataset.
        order = {"train_sampling_strategy": "random"} if hasattr(self.args, "train_sampling_strategy") else {}
        with replaced(self.args, dataloader_drop_last=False, **order):
            return make_loader(dataset)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return self._evaluation_loader(super().get_eval_dataloader, eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        return self._evaluation_loader(super().get_test_dataloader, test_dataset)

    def check_best_metric(self, metrics: dict[str, float]) -> None:
        wanted = self.args.metric_for_best_model
        if wanted and f"eval_{wanted.removeprefix('eval_')}" not in metrics:
            known = [name.removeprefix("eval_") for name in metrics]
            hint = nearest(wanted.removeprefix("eval_"), known)
            raise ValueError(f"metric_for_best_model must be one of {', '.join(known)}, got {wanted!r}{hint}")

    # --- evaluation ---

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """As the Trainer's; of `label_ids` it returns features, in the place of logits of very many labels."""
        labels = BatchLabels.of(inputs)
        if labels is None or not labels.as_ids:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if self.preprocess_logits_for_metrics is None:
            self._of_lists = True
            if "logits" not in (ignore_keys or []):
                self._in_place_of_logits = True
                ignore_keys = [name for name in MLCLOutput.__dataclass_fields__ if name != "features"]
        with replaced(self, label_names=[LABEL_IDS]):
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def evaluation_loop(self, dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; of examples with `label_ids` predictions are `LinearScores`, and labels `Labels`."""
        self._of_lists = self._in_place_of_logits = False
        self._progress.begin(description)
        compute = self.compute_metrics

        def metrics(prediction: EvalPrediction, **options: Any) -> Any:
            scores, labels = self._scores_and_labels(prediction.predictions, prediction.label_ids)
            if self._of_lists:
                scores, labels = self._for_metrics(compute, scores, labels)
            seen = EvalPrediction(scores, labels, inputs=prediction.inputs, losses=prediction.losses)
            return compute(seen, **options)  # type: ignore[misc]

        with replaced(self, compute_metrics=None if compute is None else metrics):
            output = super().evaluation_loop(dataloader, description, *args, **kwargs)
        scores, labels = self._scores_and_labels(output.predictions, output.label_ids)
        return output._replace(predictions=scores, label_ids=labels)

    def _for_metrics(self, compute: Any, scores: Any, labels: Labels) -> tuple[Any, Any]:
        """What a function of the user's own gets: arrays, where they are not too large."""
        own = compute == self._score or labels.too_large
        return (scores, labels) if own else (np.asarray(scores), labels.rows())

    def _scores_and_labels(self, values: Any, labels: Any) -> tuple[Any, Any]:
        """Predictions and labels as they are returned: of lists of labels, in the forms that are small."""
        if self._of_lists and labels is not None:
            lists = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
            labels = Labels.from_padded(lists.astype(np.int64), self.core_model.config.num_labels)
        if not self._in_place_of_logits or values is None:
            return values, labels
        parameters = classifier_parameters(self.core_model)
        if hasattr(parameters[0], "ds_id"):
            raise ValueError(f"{LABEL_IDS}: evaluation is not supported with DeepSpeed ZeRO-3; load the saved model")
        features = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        # Copies: whoever changes the classifier afterwards, as calibration does, must not change these scores.
        weight, bias = (whole(p).to("cpu", torch.float32, copy=True).numpy() for p in parameters)
        return LinearScores(features.astype(np.float32, copy=False), weight, bias), labels

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Metrics on a dataset or a dict of them; see `transformers.Trainer.evaluate`, `hf_mlcl.compute_metrics`.

        On the validation examples that the final classifier was fitted on, too, the metrics are those of classifiers
        that were not: see `fit_classifier`.
        """
        eval_dataset = self._examples(eval_dataset, keep=False)
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        data = self.eval_dataset[data] if isinstance(data, str) and isinstance(self.eval_dataset, dict) else data
        with preserved_random_state(), self._scoring_classifier(), self._scoring_held_out(data):
            return super().evaluate(eval_dataset, *args, **kwargs)

    def predict(self, test_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """Logits, labels and metrics of a dataset; see `transformers.Trainer.predict`, and `evaluate` for metrics."""
        test_dataset = self._examples(test_dataset, keep=False)
        with preserved_random_state(), self._scoring_classifier(), self._scoring_held_out(test_dataset):
            return super().predict(test_dataset, *args, **kwargs)

    def held_out_scores(self, dataset: Any) -> HeldOutScores | None:
        """Logits and labels of validation examples by classifiers that were not fitted on them.

        None for other examples than those that `fit_classifier` has chosen the thresholds by.
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
        if compute is None or not refitted or (held_out is None and dataset is not self.eval_dataset):
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

        logits, labels = self._for_metrics(compute, held_out.logits, held_out.labels)

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
            half = decision_scores(prediction, config.uncalibrated_half)
            scores |= {f"{name}_uncalibrated": float(half[name]) for name in ("macro_f1", "micro_f1", "hamming_loss")}
        return scores

    @contextmanager
    def _scoring_classifier(self) -> Iterator[None]:
        """Puts the probe in the classifier's place where the classifier was not fitted yet."""
        if self.core_model.config.classifier_fitted or self._scoring:
            yield
            return
        if self.train_dataset is None:
            raise ValueError("train_dataset: none is there to score an unfitted classifier; run fit_classifier")
        train = sample_rows(without_unlabelled(self.train_dataset), PROBE_EXAMPLES, seed=self.args.seed)
        probe = fit_probe(*self._vectors(train, "features", "reading features of a probe"), device=self.args.device)
        self._scoring = True
        try:
            with classifier_replaced(self.core_model, probe.weight, probe.bias, probe.thresholds.per_label):
                yield
        finally:
            self._scoring = False

    def features(self, dataset: Any, description: str = "reading features") -> tuple[np.ndarray, Any]:
        """Encoder features (N, feature_dim) float32 and labels of a dataset, from all processes.

        Labels are rows (N, L), bool where all are known, else int8: 1, 0, and -100 where missing; of a dataset with
        `label_ids` they are `Labels`. Features of a dataset with a length that take more than `max_feature_memory` lie
        in a `numpy.memmap`: its file in `output_dir`, one for each process, is gone with it.

        Raises:
            ValueError: For a dataset without labels.
        """
        features, labels = self._vectors(dataset, "features", description)
        return features, labels.as_stored()

    def embeddings(self, dataset: Any, description: str = "reading embeddings") -> tuple[np.ndarray, Any]:
        """Embeddings (N, projection_dim) float32, not normalised, and labels of a dataset; see `features`."""
        embeddings, labels = self._vectors(dataset, "embeddings", description)
        return embeddings, labels.as_stored()

    def _vectors(self, dataset: Any, name: str, description: str) -> tuple[np.ndarray, Labels]:
        config = self.core_model.config
        columns: Any = config.feature_dim if name == "features" else config.projection_dim

        def compute(part: Any) -> tuple[np.ndarray, Labels]:
            return self._labelled_outputs(part, name, description)

        rows = len(dataset) if hasattr(dataset, "__len__") else 0
        max_bytes = self.args.max_feature_memory * 2**30  # type: ignore[attr-defined]
        if 4 * rows * columns <= max_bytes:
            return compute(dataset)
        batch_size, folder = self.args.eval_batch_size * self.args.world_size, str(self.args.output_dir)
        return features_in_file(compute, dataset, columns, max_bytes=max_bytes, batch_size=batch_size, folder=folder)

    def _labelled_outputs(self, dataset: Any, name: str, description: str) -> tuple[Any, Labels]:
        values, labels = self._outputs(dataset, name, description)
        if labels is None:
            raise ValueError(f"dataset: its examples have neither labels nor {LABEL_IDS}")
        return values, labels

    def _outputs(self, dataset: Any, name: str, description: str) -> tuple[Any, Labels | None]:
        if hasattr(dataset, "without_augmentation"):
            dataset = dataset.without_augmentation()
        ordered, back = longest_first(dataset)
        ignored = [key for key in MLCLOutput.__dataclass_fields__ if key != name]
        # What the user has set for metrics must not reach the arrays that the classifier is fitted on.
        no_metrics = replaced(self, compute_metrics=None, preprocess_logits_for_metrics=None)
        whole = replaced(self.args, batch_eval_metrics=False, include_for_metrics=[], eval_do_concat_batches=True)
        with no_metrics, whole, preserved_random_state():
            loader = self.get_test_dataloader(ordered)
            output = self.evaluation_loop(loader, description, prediction_loss_only=False, ignore_keys=ignored)
        self.callback_handler.on_predict(self.args, self.state, self.control, {})  # closes the progress bar
        values: Any = output.predictions
        if not self._in_place_of_logits:
            values = np.asarray(values, dtype=np.float32)
        return values[back], None if output.label_ids is None else Labels.of(output.label_ids)[back]

    def _name_features(self) -> np.ndarray | None:
        """Features (L, feature_dim) of the names of the labels, or of what describes them; None where the encoder
        cannot read them."""
        core, tokenizer = self.core_model, cast(Any, self.processing_class)
        texts = getattr(core, "label_texts", None) or []
        if len(texts) != core.config.num_labels:
            texts = core.config.label_names
        if getattr(tokenizer, "pad_token", None) is None or len(texts) > MOST_NAMES:
            return None
        if not names_are_texts(core.task, texts):
            return None
        names = prepare_text({"text": texts}, copy(tokenizer))  # whose length it would set
        with replaced(self, data_collator=MultiLabelCollator(tokenizer, len(texts))):
            return self._outputs(names, "features", "reading features, label names")[0]

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
            thresholds: "balanced", "macro" or "micro", what the thresholds serve; or what each label is to reach on
                the validation examples, such as "precision=0.9" or "recall=0.9". See
                `hf_mlcl.evaluation.tune_thresholds`.

        Returns:
            What was chosen and how well it does on the validation examples.

        Raises:
            ValueError: Where a dataset is missing, or there is no trained classifier to keep.
        """
        if is_deepspeed_zero3_enabled():
            raise ValueError("fit_classifier is not supported with DeepSpeed ZeRO-3; load the saved model")
        check_rule("thresholds", thresholds)
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: {protocol!r} is none of {', '.join(PROTOCOLS)}")
        train_dataset = self.train_dataset if train_dataset is None else self._examples(train_dataset)
        eval_dataset = self.eval_dataset if eval_dataset is None else self._examples(eval_dataset)
        needed = {"eval_dataset": eval_dataset} | ({"train_dataset": train_dataset} if linear_evaluation else {})
        for name, dataset in needed.items():
            if dataset is None or isinstance(dataset, dict):
                raise ValueError(f"{name} must be one labelled dataset, got {type(dataset).__name__}")
        core, device = self.core_model, self.args.device
        self._held_out = None
        if not linear_evaluation:
            if core.config.objective == "contrastive":
                raise ValueError("linear_evaluation=False: contrastive training trains no classifier to keep")
            known = without_unlabelled(eval_dataset)
            logits = self._labelled_outputs(known, "logits", "reading logits, validation")
            found = write_calibrated(core, *logits, thresholds=thresholds)
        else:
            # Features of examples without any known label would be computed for nothing.
            train = self._vectors(without_unlabelled(train_dataset), "features", "reading features, training")
            known = without_unlabelled(eval_dataset)
            validation = self._vectors(known, "features", "reading features, validation")
            if core.config.train_label_counts is None:  # the labels of a stream are known only now
                core.config.train_label_counts = train[1].counts().tolist()
            fit: Any = fit_and_write_study if protocol == "study" else fit_and_write_classifier
            own: dict[str, Any] = {"seed": self.args.seed}
            if protocol != "study":
                own = {"refit": refit, "names": self._name_features()}
            shown = self._progress.shown
            found = fit(core, train, validation, thresholds=thresholds, device=device, progress=shown, **own)
        report, *scores = found
        weight = whole(classifier_parameters(core)[0]).float().cpu().clone()
        self._held_out = HeldOutScores(eval_dataset, weight, *scores)
        before = self._before
        if linear_evaluation and before is not None and before[1] is train_dataset and before[2] is eval_dataset:
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
        scores = encoder_scores(parts[0], parts[1], self.args.device)
        return scores, *both

    def _bare_features(self, dataset: Any) -> np.ndarray:
        """Features (N, feature_dim) of the model as it is, before anything is wrapped or counted for training."""
        if hasattr(dataset, "without_augmentation"):
            dataset = dataset.without_augmentation()
        core, (ordered, back), parts = self.core_model, longest_first(dataset), []
        core.eval()
        loader = self.get_test_dataloader(ordered)
        shown = bar("reading features before training", len(loader), self._progress.shown, leave=False)
        with preserved_random_state(), torch.no_grad(), shown:
            for batch in loader:
                inputs = model_inputs(self._prepare_inputs(batch), core)
                with self.compute_loss_context_manager():
                    features = core(**inputs).features
                parts.append(self.accelerator.gather_for_metrics(features.float()).cpu())
                shown.update()
        return torch.cat(parts).numpy()[back]

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

    # --- hyper-parameter search ---

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, Any]] | None = None,
        compute_objective: Callable[[dict[str, float]], Any] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "maximize",
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> BestRun | list[BestRun]:
        """Searches hyper-parameters; see `transformers.Trainer.hyperparameter_search`, from which it differs so:

        Each trial trains a model of `model_init`, fits its classifier and evaluates it on `eval_dataset`; the
        objective is by default the Macro-F1 of that, and maximised. Evaluations during training (the probe's scores)
        only let optuna prune. Every trial starts from the arguments as they were, and so does the Trainer afterwards:
        the model of the best trial is `model_init`'s trained with `best_run.hyperparameters`, which gives the same
        numbers again.

        The objective is measured by classifiers that have not seen the examples they score, but strengths and
        thresholds are chosen on these, too: a score to choose by, not one to report.

        Args:
            hp_space: Takes an optuna trial, gives values of fields of `MLCLTrainingArguments`, such as `loss`,
                `temperature` or `learning_rate`; by default a learning rate of 1e-5 to 5e-4.
            compute_objective: Takes the metrics, gives the number to optimise; by default `eval_macro_f1`.
            n_trials: How many models are trained.
            direction: "maximize", or "minimize" beside a `compute_objective` of your own; a list for several numbers.
            backend: "optuna" by default, the only one that is tested.
            hp_name: Takes a trial, gives the name of its folder in `output_dir`.
            **kwargs: For `optuna.create_study` and `Study.optimize`, such as `sampler`, `pruner`, `timeout`.

        Raises:
            ValueError: Without `model_init`, for a field that does not exist, or a direction that makes no sense.
            ImportError: Without optuna.
        """
        if self.model_init is None:
            raise ValueError("hyperparameter_search needs model_init, a function that builds the model of each trial")
        if compute_objective is None and direction != "maximize":
            raise ValueError(f"direction={direction!r} needs compute_objective; Macro-F1, the default, is maximised")
        if backend in (None, "optuna") and not is_optuna_available():
            raise ImportError("hyperparameter_search needs optuna: pip install 'hf-mlcl[search]'")
        self._args_before = dict(vars(self.args))
        try:
            return super().hyperparameter_search(
                checked_space(hp_space or default_hp_space, self.args),
                compute_objective or default_objective,
                n_trials=n_trials,
                direction=direction,
                backend=backend,
                hp_name=hp_name,
                **kwargs,
            )
        except ValueError as error:
            if "No trials are completed" not in str(error):
                raise
            raise ValueError(
                f"hyperparameter_search: all {n_trials} trials were pruned or failed; see the pruner and hp_space"
            ) from error
        finally:
            self.restore_arguments()
            self._args_before = self.hp_search_backend = None
            # The trials' models are gone; what the Trainer holds now is as untrained as before the search.
            set_seed(self.args.seed)
            self.model = self.model_wrapped = self.call_model_init()
            self._move_model_to_device(self.model, self.args.device)
            self.optimizer = self.lr_scheduler = None
            self._set_up_model()

    def restore_arguments(self) -> None:
        # A parameter of one trial, such as the beta of a loss, must not meet the loss of the next.
        vars(self.args).update(self._args_before or {})
