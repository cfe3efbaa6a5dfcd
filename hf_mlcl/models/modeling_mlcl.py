"""Any encoder with three small heads: projection and prototypes for training, a classifier for use.

Flat on purpose: this file travels with a checkpoint. It imports torch, transformers, the files beside it, and the
losses only where the package is installed: predicting needs no package, training does.
"""

import inspect
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging

from .adapters_mlcl import MLCLAdapters, check_no_adapter
from .configuration_mlcl import MLCLConfig, did_you_mean
from .encoders_mlcl import (
    check_inputs,
    check_task,
    default_pooling,
    drop_unused_pooler,
    encoder_from_config,
    encoder_source,
    evaluating,
    learned_positions,
    load_encoder,
    load_image_processor,
    load_tokenizer,
    padding_moved_back,
    padding_moved_behind,
    pool,
    run_once,
    sentence_transformers_pooling,
    unused_parameters,
    unwrapped,
    warn_if_bf16_is_slow,
    warn_of_padding,
    without_empty,
)
from .heads_mlcl import MLCLOutput, MLCLProjection, MLCLPrototypes, add_rows, choose_labels, spread_prototypes
from .images_mlcl import read_image
from .length_chunks_mlcl import length_chunks

try:
    from hf_mlcl.losses import ContrastiveLoss, LabelSets, build_loss, is_contrastive, loss_parameters
except ImportError:
    build_loss = None  # type: ignore[assignment]


logger = logging.get_logger(__name__)


class MLCLPreTrainedModel(MLCLAdapters):
    """What both task models share; not used by itself."""

    config_class = MLCLConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    processor: Any = None  # tokenizer or image processor that made the inputs; `MLCLTrainer` sets it
    length_sorted_chunks: bool | None = None  # in evaluation only, unless `MLCLTrainer` sets it
    # The Trainer then divides the loss, a mean over anchors, by the number of accumulation steps itself.
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    task: str

    def __init__(self, config: MLCLConfig, **unknown: Any) -> None:
        super().__init__(config)
        if unknown:
            name = next(iter(unknown))
            raise ValueError(
                f"from_pretrained loads a trained model and knows no {name!r}; a new one on an encoder: from_encoder"
            )
        if type(self).task is None:  # AutoModel knows one class for both tasks
            self.task = config.task
            self.main_input_name = _CLASSES[config.task].main_input_name
        elif config.task != self.task:
            other = _CLASSES[config.task].__name__
            raise ValueError(f"{type(self).__name__}: the model's task is {config.task!r}, use {other}")
        if config.encoder_config is None:
            raise ValueError("encoder_config: there is none; is config.json missing? A new model: see from_encoder")
        config.drop_stale_thresholds()
        self.encoder = encoder_from_config(config.encoder_config, config.pooling)
        check_task(self.encoder, self.task)
        self.supports_gradient_checkpointing = getattr(self.encoder, "supports_gradient_checkpointing", False)
        feature_dim, num_labels = config.feature_dim, len(config.label_names)
        assert feature_dim is not None  # the configuration has it from the encoder's
        self.projection = MLCLProjection(feature_dim, config.projection_dim)
        self.prototypes = MLCLPrototypes(num_labels, config.projection_dim)
        self.classifier = nn.Linear(feature_dim, num_labels)
        self._built_from: list[Any] | None = None
        self.contrastive_loss: Any = None
        self.classification_loss: Any = None
        if build_loss is not None:
            try:
                self.build_losses()
            except ValueError as error:  # a model predicts without; training says it again
                logger.warning("%s", error)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        if module is self.contrastive_loss and hasattr(module, "reset_parameters"):
            module.reset_parameters()
        heads = [self.projection.hidden, self.projection.output, self.prototypes, self.classifier]
        if any(module is head for head in heads):
            init.xavier_uniform_(module.weight)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)

    @classmethod
    def from_encoder(
        cls,
        encoder: str | os.PathLike[str] | PreTrainedModel,
        labels: Sequence[str] | int,
        *,
        pooling: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        encoder_kwargs: dict[str, Any] | None = None,
        tokenizer: Any = None,
        label_descriptions: Mapping[str, str] | None = None,
        **config_fields: Any,
    ) -> "MLCLPreTrainedModel":
        """Builds an untrained multi-label model on a pretrained encoder.

        Args:
            encoder: Folder or Hub id of a model, or the encoder itself.
            labels: Names of the labels, or their number.
            pooling: See `MLCLConfig`; by default what a sentence-transformers folder says, "cls" where the encoder has
                such a token, or else the encoder's own pooler or the mean.
            dtype: Type of the weights; float32 by default, whatever the checkpoint holds.
            encoder_kwargs: Further arguments for `AutoModel.from_pretrained`, such as `revision` or `token`.
            tokenizer: For `prototype_init="label_names"`, the tokenizer; by default the one in the encoder's folder.
            label_descriptions: For `prototype_init="label_names"`, texts to take in place of the names they belong to.
            **config_fields: Fields of `MLCLConfig`, such as `loss`, `projection_dim` or `prototype_init`.

        Raises:
            ValueError: For an encoder that cannot be loaded, is of the other task or carries an adapter, for unknown
                fields or losses, or for duplicate labels.
        """
        if cls.task is None:
            names = " or ".join(sorted(model.__name__ for model in _CLASSES.values()))
            raise ValueError(f"from_encoder: {cls.__name__} loads saved models only; use {names}")
        known = sorted(set(MLCLConfig.__annotations__) - {"encoder_config", "task", "feature_dim", "trained"})
        for name in config_fields:
            if name not in known and not hasattr(PreTrainedConfig, name):
                raise ValueError(
                    f"from_encoder: {name!r} is none of the keywords {', '.join(known)}{did_you_mean(name, known)}"
                )
        if isinstance(encoder, nn.Module):
            check_no_adapter(encoder)
            encoder = unwrapped(encoder)
        source = encoder_source(encoder)
        if not isinstance(encoder, nn.Module):
            encoder = load_encoder(source, cls.task, dtype, encoder_kwargs or {})
            pooling = pooling or sentence_transformers_pooling(source, encoder_kwargs or {})
        check_task(encoder, cls.task)
        with torch.no_grad():
            outputs = run_once(encoder)
        pooling = pooling or default_pooling(encoder, outputs)
        drop_unused_pooler(encoder, pooling)
        warn_of_padding(encoder, pooling)
        config = MLCLConfig(
            encoder_config=encoder.config,
            task=cls.task,
            pooling=pooling,
            feature_dim=pool(outputs, None, pooling).shape[1],
            dtype=encoder.dtype,
            trained=False,
            **config_fields,
        )
        config.name_or_path = source
        config.label_names = [f"LABEL_{i}" for i in range(labels)] if isinstance(labels, int) else labels
        model = cls.around_encoder(encoder, config)
        if build_loss is not None:
            model.build_losses()
        if config.prototype_init == "label_names":
            model._prototypes_from_names(tokenizer, label_descriptions, source, encoder_kwargs or {})
        elif label_descriptions is not None:
            raise ValueError('label_descriptions needs prototype_init="label_names"')
        return model

    def _prototypes_from_names(self, tokenizer: Any, descriptions: Any, source: str, kwargs: Any) -> None:
        raise ValueError(f"prototype_init='label_names' is not supported with a {self.task} encoder")

    @torch.no_grad()
    def add_labels(self, names: Sequence[str]) -> None:
        """Adds labels after the present ones, whose prototypes, scores and thresholds stay as they are.

        A new label starts with a Xavier prototype and the score 0.01 for every input: train or fit the classifier
        again before using it. Build the Trainer afterwards: an optimizer does not know the grown parameters.

        Args:
            names: Names of the new labels.

        Raises:
            ValueError: Where a name is there already, twice among them, or none is given, or with an adapter.
        """
        config = self.config
        if isinstance(names, (set, frozenset)):  # in no order, and in another one in each process
            raise ValueError(f"names: expected a list of label names, got {names!r}")
        names = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
        if not names:
            raise ValueError("names: give at least one new label")
        if self.has_adapter:
            raise ValueError("add_labels is not supported with an adapter; see merge_adapter")
        config.label_names = [*config.label_names, *names]
        for head in (self.prototypes, self.classifier):
            add_rows(head, len(names))
        added = {"thresholds": 0.5, "uncalibrated_half": 0.5, "train_label_counts": 0, "num_train_examples": 0}
        for field, value in added.items():
            if isinstance(getattr(config, field), list):
                setattr(config, field, [*getattr(config, field), *[value] * len(names)])

    def _encode(self, encoder_inputs: dict[str, Any]) -> tuple[Tensor, list[Any]]:
        check_inputs(unwrapped(self.encoder), self.main_input_name, encoder_inputs)
        encoder_inputs, places = padding_moved_behind(encoder_inputs)
        parameters = inspect.signature(unwrapped(self.encoder).forward).parameters
        accepted = set(parameters)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            accepted |= {"output_attentions", "output_hidden_states"}
        inputs = {name: value for name, value in encoder_inputs.items() if value is not None and name in accepted}
        if "use_cache" in accepted:
            inputs["use_cache"] = False  # the cache of a decoder is for generating
        sorts = not self.training if self.length_sorted_chunks is None else self.length_sorted_chunks
        chunks = length_chunks(inputs) if sorts and not self._shows_layers(inputs) else []
        if chunks:
            pooled = [
                pool(
                    self.encoder(**chunk.inputs, return_dict=True), chunk.inputs["attention_mask"], self.config.pooling
                )
                for chunk in chunks
            ]
            rows = torch.cat([chunk.rows for chunk in chunks])
            return torch.cat(pooled)[rows.argsort()], [None, None]
        outputs = self.encoder(**inputs, return_dict=True)
        features = pool(outputs, encoder_inputs.get("attention_mask"), self.config.pooling)
        return features, [padding_moved_back(outputs.get(name), places) for name in ("hidden_states", "attentions")]

    def _shows_layers(self, inputs: dict[str, Any]) -> bool:
        """Whether the encoder returns what every layer makes of every token, padding included."""
        names = ("output_hidden_states", "output_attentions")
        return any(inputs.get(name) or getattr(unwrapped(self.encoder).config, name, False) for name in names)

    def _forward(
        self, encoder_inputs: dict[str, Any], labels: Tensor | None, output_logits: bool, return_dict: bool | None
    ) -> Any:
        objective = self.config.objective
        if labels is not None and not output_logits and objective != "contrastive":
            raise ValueError(f"output_logits=False is not supported with labels and the objective {objective!r}")
        features, (hidden_states, attentions) = self._encode(encoder_inputs)
        output = MLCLOutput(
            logits=self.classifier(features) if output_logits else None,
            embeddings=self.projection(features),
            features=features,
            prototypes=self.prototypes(),
            hidden_states=hidden_states,
            attentions=attentions,
        )
        if labels is not None:
            if self.training and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
                warnings.warn(
                    "forward(labels=...) contrasts the examples of this process only, MLCLTrainer those of all",
                    stacklevel=3,
                )
            # A new output, so that the loss comes first in it, as `model(**batch)[0]` expects.
            output = MLCLOutput(loss=self.objective_losses(output, labels)["loss"], **output)
            if self.training and objective != "contrastive":
                self.config.classifier_fitted = True  # other trainers than ours cannot tell
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

    def objective_losses(self, output: MLCLOutput, labels: Any, keys: Any = None) -> dict[str, Tensor]:
        """The training objective and its parts.

        Args:
            output: What forward returned for a batch, or embeddings, logits and prototypes gathered from several.
            labels: (B, L) multi-hot labels of its examples, -100 or NaN where missing, or `hf_mlcl.losses.LabelSets`.
            keys: `hf_mlcl.losses.Keys` that the examples are contrasted with instead of each other.

        Returns:
            Scalars: `loss`, and where the objective has them `contrastive_loss` and `classification_loss`.
        """
        config, parts = self.config, {}
        if self._built_from != self._loss_settings():  # the configuration was changed, or names an unknown loss
            self.build_losses()
        labels = LabelSets.of(labels, columns=config.num_labels)
        if config.objective != "classification":
            loss, options = self.contrastive_loss, {"keys": keys}
            if not isinstance(loss, ContrastiveLoss):  # a loss of the user's own knows rows of labels
                labels, options = labels.rows(), {}
            parts["contrastive_loss"] = loss(output.embeddings, labels, output.prototypes, **options)
        if config.objective != "contrastive":
            rows = labels if isinstance(labels, Tensor) else labels.rows()
            parts["classification_loss"] = self.classification_loss(output.logits, rows)
        if config.objective == "joint":
            loss = parts["contrastive_loss"] + config.classification_weight * parts["classification_loss"]
        else:
            (loss,) = parts.values()
        return {"loss": loss, **parts}

    def _loss_settings(self) -> list[Any]:
        names = ("loss", "loss_parameters", "classification_loss", "classification_loss_parameters")
        values = [getattr(self.config, name) for name in names]
        return [dict(value) if isinstance(value, dict) else value for value in values]

    def _parameters_of(self, kind: str) -> dict[str, Any]:
        """The parameters of a loss; the counts of the training set where it asks for them and none are given."""
        config, given = self.config, getattr(self.config, f"{kind}_parameters")
        if given.get("label_counts") is not None:
            return given
        counts = {"label_counts": config.train_label_counts, "num_examples": config.num_train_examples}
        asked = loss_parameters(getattr(config, kind))
        return {**given, **{name: value for name, value in counts.items() if name in asked}}

    def build_losses(self, loss: nn.Module | None = None) -> None:
        """Builds `contrastive_loss` and `classification_loss` as the configuration names them.

        A loss with parameters `label_counts` and `num_examples` gets the counts of the training set from the
        configuration, where `MLCLTrainer` has counted, unless they are among the loss's parameters.

        Args:
            loss: A loss of your own in place of the one that it belongs to; the configuration then has its class's
                name, under which `hf_mlcl.losses.register_loss` lets a saved model find it again.

        Raises:
            ValueError: For an unknown loss or parameter, or a loss of the other kind.
        """
        if build_loss is None:
            raise ImportError("training needs the package hf_mlcl: pip install hf-mlcl")
        config = self.config
        for kind, attribute in (("loss", "contrastive_loss"), ("classification_loss", "classification_loss")):
            if loss is not None and is_contrastive(loss) == (kind == "loss"):
                setattr(config, kind, type(loss).__name__)
                setattr(config, f"{kind}_parameters", {})
                built = loss
            else:
                built = build_loss(getattr(config, kind), **self._parameters_of(kind))
            name = getattr(config, kind)
            if kind == "loss" and not is_contrastive(built):
                remedy = f"write objective='classification', classification_loss={name!r}"
                raise ValueError(f"loss: {name!r} is no contrastive loss; {remedy}")
            if kind != "loss" and is_contrastive(built):
                raise ValueError(f"classification_loss: {name!r} is a contrastive loss, not one on logits")
            setattr(self, attribute, built)
        self._built_from = self._loss_settings()
        if getattr(self.contrastive_loss, "log_temperature", None) is not None and self.has_adapter:
            raise ValueError("learnable_temperature is not supported with an adapter, which would not save it")

    def freeze_unused_parameters(self) -> list[str]:
        """Freezes parameters that receive no gradient under the objective, which data parallelism has to know.

        These are heads that it has no use for, and weights of the encoder that the pooled features do not depend on.
        Returns their names, so that they can be thawed after training; what was frozen before is not among them.
        """
        contrastive, classification = (self.config.objective != other for other in ("classification", "contrastive"))
        used = {
            "projection": contrastive,
            "prototypes": contrastive and getattr(self.contrastive_loss, "uses_prototypes", True),
            "classifier": classification,
            "contrastive_loss": contrastive,
            "classification_loss": classification,
        }
        of_encoder = {id(parameter) for parameter in unused_parameters(self.encoder, self.config.pooling)}
        frozen = []
        for name, parameter in self.named_parameters():
            unused = not used.get(name.partition(".")[0], True) or id(parameter) in of_encoder
            if unused and parameter.requires_grad:
                parameter.requires_grad_(False)
                frozen.append(name)
        return frozen

    def train(self, mode: bool = True) -> "MLCLPreTrainedModel":
        """As of every module; with `config.freeze_batch_norm` the encoder's batch statistics stay as they are."""
        super().train(mode)
        if mode and self.config.freeze_batch_norm:
            for module in self.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _own_processor(self, load: Any) -> Any:
        """The tokenizer or image processor of the training, or else of the folder that the model is from."""
        if self.processor is None:
            self.processor = load(self.config.name_or_path, {})
        return self.processor

    @contextmanager
    def _inference(self) -> Iterator[None]:
        # After train() a model is in train mode: dropout would make every call give other scores.
        with evaluating(self), torch.inference_mode():
            yield

    def _without_rows(self, inputs: dict[str, Any]) -> bool:
        # Encoders do not know what to do with an empty batch.
        given = inputs.get(self.main_input_name)
        return isinstance(given, Tensor) and given.ndim > 0 and len(given) == 0

    def encode(self, *, normalize: bool = True, **inputs: Tensor) -> Tensor:
        """Embeddings (B, projection_dim) of a batch, L2-normalised unless told otherwise; takes forward's inputs."""
        if self._without_rows(inputs):
            return self.prototypes.weight.new_empty(0, self.config.projection_dim)
        with self._inference():
            embeddings = self(**inputs, return_dict=True).embeddings
            return nn.functional.normalize(embeddings.float()) if normalize else embeddings

    @property
    def search_space(self) -> str:
        """ "embeddings" where training has made them, else "features": what similar examples are found by."""
        return self.config.search_space

    def limit_tokens(self, processor: Any) -> Any:
        """The processor; of a tokenizer `model_max_length` is from now on at most the encoder's positions."""
        most, _ = learned_positions(self.encoder)
        if self.task == "text" and most is not None and hasattr(processor, "model_max_length"):
            processor.model_max_length = min(processor.model_max_length, most)
        return processor

    def predict_labels(
        self,
        *raw: Any,
        top_k: int | None = None,
        min_labels: int = 0,
        threshold: float | Sequence[float] | Mapping[str, float] | None = None,
        logits: Tensor | None = None,
        **inputs: Tensor,
    ) -> list[list[dict[str, Any]]]:
        """The labels of each example of a batch, best score first.

        Args:
            top_k: Gives at most so many labels.
            min_labels: Gives at least so many, also below their thresholds.
            threshold: One number, one a label, or those of some labels by name, on the scores; by default, and for
                other labels, the thresholds that were fitted, or 0.5.
            logits: (B, L) that forward has given, in place of its inputs.
            **inputs: What forward takes, such as a tokenizer or an image processor returns it.

        Returns:
            For each example a list of `{"label": name, "score": sigmoid of the logit}`.

        Raises:
            ValueError: Where the classifier was never fitted, or an argument is out of range.
        """
        config, num_labels = self.config, len(self.config.label_names)
        if raw:
            raise ValueError(
                "predict_labels takes what a tokenizer or an image processor returns, predict_labels(**inputs); "
                "predict takes texts or images"
            )
        if not config.classifier_fitted:
            raise ValueError("predict_labels needs a fitted classifier: run fit_classifier()")
        most = num_labels if top_k is None else top_k
        if type(min_labels) is not int or not 0 <= min_labels <= num_labels:
            raise ValueError(f"min_labels must be an integer from 0 to {num_labels}, got {min_labels!r}")
        if type(most) is not int or most < max(1, min_labels):
            raise ValueError(f"top_k must be an integer of at least {max(1, min_labels)}, got {top_k!r}")
        names = config.label_names
        limits = config.thresholds if threshold is None else threshold
        if isinstance(limits, Mapping):
            for name in limits.keys() - set(names):
                raise ValueError(f"threshold: {name!r} is none of the labels{did_you_mean(str(name), names)}")
            limits = list(
                {**dict(zip(names, config.thresholds or [0.5] * num_labels, strict=True)), **limits}.values()
            )
        if logits is None:
            if self._without_rows(inputs):
                return []
            with self._inference():
                logits = self(**inputs, return_dict=True).logits
        scores = logits.float().sigmoid().cpu()
        return [
            [{"label": names[label], "score": scores[row, label].item()} for label in chosen]
            for row, chosen in enumerate(choose_labels(scores, limits, min_labels, most))
        ]


class MLCLModel(MLCLPreTrainedModel):
    """What `AutoModel.from_pretrained` loads of a saved model, of texts or images: it turns inputs into embeddings.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertModel
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
        >>> trained = MLCLForSequenceClassification.from_encoder(BertModel(BertConfig(**sizes)), ["oil", "wheat"])
        >>> model = MLCLModel(trained.config)  # as AutoModel.from_pretrained does, with the weights
        >>> model.eval()(input_ids=torch.tensor([[1, 2], [3, 4]])).pooler_output.shape
        torch.Size([2, 8])
    """

    task = None  # type: ignore[assignment]  # the configuration's

    def forward(self, *args: Any, return_dict: bool | None = None, **inputs: Any) -> Any:
        """`pooler_output` are L2-normalised embeddings (B, projection_dim); features (B, feature_dim) of a model whose
        projection was not trained. Takes the inputs of the model for the task."""
        inputs |= dict(zip((self.main_input_name, "attention_mask"), args, strict=False))
        features, (hidden_states, attentions) = self._encode(inputs)
        embeddings = self.projection(features) if self.search_space == "embeddings" else features
        output = BaseModelOutputWithPooling(
            pooler_output=nn.functional.normalize(embeddings.float()),
            hidden_states=hidden_states,
            attentions=attentions,
        )
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()


class MLCLForSequenceClassification(MLCLPreTrainedModel):
    """A text encoder for multi-label classification: `from_encoder` to start, `from_pretrained` to load.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
        >>> model = MLCLForSequenceClassification.from_encoder(BertModel(BertConfig(**sizes)), ["oil", "wheat"])
        >>> output = model(input_ids=torch.tensor([[1, 2], [3, 4]]), labels=torch.tensor([[1, 0], [1, 1]]))
        >>> output.logits.shape, output.embeddings.shape, output.loss.ndim
        (torch.Size([2, 2]), torch.Size([2, 256]), 0)
    """

    task = "text"
    main_input_name = "input_ids"
    label_texts: list[str] | None = None  # what stood for the labels when their prototypes were made

    @torch.no_grad()
    def _prototypes_from_names(self, tokenizer: Any, descriptions: Any, source: str, kwargs: Any) -> None:
        tokenizer = tokenizer or load_tokenizer(source, kwargs)
        if not callable(tokenizer):
            raise ValueError(f"tokenizer: {tokenizer!r} is none; see AutoTokenizer.from_pretrained")
        self.limit_tokens(tokenizer)
        names, descriptions = self.config.label_names, descriptions or {}
        unknown = [name for name in descriptions if name not in names]
        if unknown:
            raise ValueError(f"label_descriptions: {unknown[0]!r} is none of the labels")
        texts = [descriptions.get(name, name) for name in names]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"label_descriptions must be texts, got {descriptions!r}")
        self.label_texts = texts
        embeddings = []
        for start in range(0, len(texts), 64):
            inputs = tokenizer(texts[start : start + 64], padding=True, truncation=True, return_tensors="pt")
            embeddings.append(self.encode(normalize=False, **inputs.to(self.device)))
        spread = spread_prototypes(torch.cat(embeddings).float())
        told_apart = spread.any(dim=1, keepdim=True)
        if not told_apart.all():
            same = [name for name, apart in zip(names, told_apart, strict=True) if not apart]
            logger.warning(
                "the encoder does not tell the names of %d labels apart, such as %r: their prototypes start at random",
                len(same),
                same[0],
            )
        self.prototypes.weight.copy_(torch.where(told_apart, spread, self.prototypes.weight))

    def predict(
        self,
        texts: str | Iterable[str | None],
        tokenizer: Any = None,
        text_pairs: str | Iterable[str | None] | None = None,
        *,
        batch_size: int = 64,
        bf16: bool = False,
        **options: Any,
    ) -> list[list[dict[str, Any]]]:
        """The labels of texts by their thresholds, best score first; `hf_mlcl.data.predict_texts` takes streams.

        Args:
            texts: Texts, or one; None counts as empty.
            tokenizer: By default the one that the model was trained with, or that lies in its folder. Texts are cut as
                those of training were.
            text_pairs: The second texts, as many, for a model of text pairs.
            batch_size: Texts per forward pass; those of a batch are about equally long.
            bf16: Whether the encoder computes in bfloat16: scores then differ by up to about 0.01.
            **options: `top_k`, `min_labels` and `threshold` of `predict_labels`.

        Returns:
            For each text a list of `{"label": name, "score": sigmoid of the logit}`.

        Raises:
            ValueError: For what is no text, or where there are more or fewer pairs than texts, or none for a model of
                pairs.
        """
        if self.config.text_pairs and text_pairs is None:
            raise ValueError("text_pairs are needed: the model was trained on pairs of texts")
        columns = []
        for name, given in (("texts", texts), ("text_pairs", text_pairs)):
            if given is not None:
                given = ["" if text is None else text for text in ([given] if isinstance(given, str) else given)]
                wrong = [text for text in given if not isinstance(text, str)]
                if wrong:
                    raise ValueError(f"{name} must be strings, got {wrong[0]!r}")
                columns.append(given)
        if len(columns) == 2 and len(columns[0]) != len(columns[1]):
            raise ValueError(f"text_pairs: {len(columns[1])} were given for {len(columns[0])} texts")
        if not columns[0]:
            return []
        if bf16:
            warn_if_bf16_is_slow(self.device)
        tokenizer = self._own_processor(load_tokenizer) if tokenizer is None else tokenizer
        limit = min(self.limit_tokens(tokenizer).model_max_length, 10**9)
        tokens = tokenizer(*columns, truncation=True, max_length=int(limit))
        tokens = without_empty(
            {name: tokens[name] for name in tokens if name in tokenizer.model_input_names}, tokenizer
        )
        rows = [{name: values[row] for name, values in tokens.items()} for row in range(len(columns[0]))]
        # What is too large fails at once.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]["input_ids"]), reverse=True)
        answers: list[list[dict[str, Any]]] = [[] for _ in rows]
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = tokenizer.pad([rows[row] for row in batch], return_tensors="pt").to(self.device)
            outputs: dict[str, Any] = {"logits": self._logits_in_bf16(inputs)} if bf16 else dict(inputs)
            for row, labels in zip(batch, self.predict_labels(**outputs, **options), strict=True):
                answers[row] = labels
        return answers

    def _logits_in_bf16(self, inputs: Any) -> Tensor:
        with self._inference():
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                features, _ = self._encode(dict(inputs))
            return self.classifier(features.float())

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_logits: bool = True,
        return_dict: bool | None = None,
    ) -> MLCLOutput | tuple[Tensor, ...]:
        """Scores texts; `input_ids` and the masks are (B, T) int64, `labels` (B, L) multi-hot. See `MLCLOutput`."""
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
            "position_ids": position_ids,
            "inputs_embeds": inputs_embeds,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        return self._forward(inputs, labels, output_logits, return_dict)


class MLCLForImageClassification(MLCLPreTrainedModel):
    """A vision encoder for multi-label classification: `from_encoder` to start, `from_pretrained` to load.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> sizes = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
        >>> encoder = ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes))
        >>> model = MLCLForImageClassification.from_encoder(encoder, ["boat", "cat"])
        >>> model.encode(pixel_values=torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 256])
    """

    task = "vision"
    main_input_name = "pixel_values"
    # Part of the model, so that it is at hand, too, where the package is not installed.
    read_image = staticmethod(read_image)

    def predict(
        self, images: Any, image_processor: Any = None, *, batch_size: int = 64, **options: Any
    ) -> list[list[dict[str, Any]]]:
        """The labels of images by their thresholds, best score first.

        Args:
            images: Paths or PIL images, or one.
            image_processor: By default the one that the model was trained with, or that lies in its folder.
            batch_size: Images per forward pass.
            **options: `top_k`, `min_labels` and `threshold` of `predict_labels`.

        Returns:
            For each image a list of `{"label": name, "score": sigmoid of the logit}`.
        """
        images = [images] if isinstance(images, (str, os.PathLike)) or hasattr(images, "size") else list(images)
        image_processor = self._own_processor(load_image_processor) if image_processor is None else image_processor
        answers: list[list[dict[str, Any]]] = []
        for start in range(0, len(images), batch_size):
            batch = [read_image(image) for image in images[start : start + batch_size]]
            pixels = image_processor(batch, return_tensors="pt")["pixel_values"].to(self.device)
            answers += self.predict_labels(pixel_values=pixels, **options)
        return answers

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_logits: bool = True,
        return_dict: bool | None = None,
    ) -> MLCLOutput | tuple[Tensor, ...]:
        """Scores images; `pixel_values` (B, channels, height, width), `labels` (B, L) multi-hot. See `MLCLOutput`."""
        inputs = {
            "pixel_values": pixel_values,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
        }
        return self._forward(inputs, labels, output_logits, return_dict)


_CLASSES: dict[str, Any] = {"text": MLCLForSequenceClassification, "vision": MLCLForImageClassification}

__all__ = [
    "MLCLForImageClassification",
    "MLCLForSequenceClassification",
    "MLCLModel",
    "MLCLOutput",
    "MLCLPreTrainedModel",
]
