"""Pipelines that read an input as training did. They are the stock ones for all models but those of this package."""

from __future__ import annotations

import base64
import io
import os
from typing import Any, cast
from urllib.request import Request, urlopen

from torch import tensor
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY, Pipeline
from transformers.pipelines.image_classification import ImageClassificationPipeline
from transformers.pipelines.text_classification import TextClassificationPipeline

from .configuration_mlcl import MLCLConfig
from .encoders_mlcl import without_empty
from .images_mlcl import read_image


class MLCLTextPipeline(TextClassificationPipeline):
    """The stock pipeline, which cuts texts to the length of the training unless told `truncation=False`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        model: Any = self.model
        if model.config.model_type == MLCLConfig.model_type and self.tokenizer is not None:
            model.limit_tokens(self.tokenizer)

    def preprocess(self, inputs: Any, **tokenizer_kwargs: Any) -> Any:  # type: ignore[override]  # as the stock one
        if self.model.config.model_type == MLCLConfig.model_type:
            _check_pair(self.model, inputs)
            tokenizer_kwargs.setdefault("truncation", True)
        inputs = super().preprocess(inputs, **tokenizer_kwargs)
        if self.model.config.model_type == MLCLConfig.model_type and not inputs["input_ids"].numel():
            rows = {name: value.tolist() for name, value in inputs.items()}
            inputs = {name: tensor(row) for name, row in without_empty(rows, self.tokenizer).items()}
        return inputs

    def _forward(self, model_inputs: Any) -> Any:  # type: ignore[override]  # as the stock one
        return _scores(self.model, super()._forward(model_inputs))


class MLCLImagePipeline(ImageClassificationPipeline):
    """The stock pipeline, where images are read by `hf_mlcl.models.read_image`.

    The stock one drops transparency, whatever colour lies below, and clips 16 bits to white.
    """

    def preprocess(self, image: Any, timeout: float | None = None) -> Any:  # type: ignore[override]  # as the stock one
        if self.model.config.model_type == MLCLConfig.model_type and not hasattr(image, "shape"):
            image = read_image(_source(image, timeout))
        return super().preprocess(image, timeout)

    def _forward(self, model_inputs: Any) -> Any:  # type: ignore[override]  # as the stock one
        return _scores(self.model, super()._forward(model_inputs))


class MLCLPipeline(Pipeline):
    """The labels of texts or images by the model's thresholds: `pipeline("multi-label-classification", model=...)`.

    Takes texts, or what the image pipeline takes, and `top_k`, `min_labels` and `threshold` of `predict_labels`. Gives
    for each input a list of `{"label": name, "score": probability}`, best score first.
    """

    _load_tokenizer: Any = None  # whichever of both the folder has
    _load_image_processor: Any = None

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        return {}, {}, options

    def preprocess(self, inputs: Any) -> Any:  # type: ignore[override]
        model, image_processor = cast(Any, self.model), cast(Any, self.image_processor)
        if model.task == "vision":
            return image_processor(read_image(_source(inputs, None)), return_tensors="pt")
        _check_pair(model, inputs)
        pair = inputs if isinstance(inputs, dict) else {"text": inputs}
        tokens = model.limit_tokens(self.tokenizer)(**{name: [text] for name, text in pair.items()}, truncation=True)
        return {name: tensor(rows) for name, rows in without_empty(tokens, self.tokenizer).items()}

    def _forward(self, inputs: Any) -> Any:  # type: ignore[override]
        return {"logits": self.model(**inputs).logits}

    def postprocess(self, outputs: Any, **options: Any) -> Any:  # type: ignore[override]
        model: Any = self.model
        return model.predict_labels(logits=outputs["logits"], **options)[0]


def _check_pair(model: Any, inputs: Any) -> None:
    alone = isinstance(inputs, str) or (isinstance(inputs, dict) and inputs.get("text_pair") is None)
    if model.config.text_pairs and alone:
        raise ValueError('the model was trained on pairs of texts: give {"text": ..., "text_pair": ...}')


def _scores(model: Any, outputs: Any) -> Any:
    """What has a row for each input: pipelines cut all outputs by rows, and there are as many prototypes as labels."""
    return {"logits": outputs["logits"]} if model.config.model_type == MLCLConfig.model_type else outputs


def _source(image: Any, timeout: float | None) -> Any:
    """What a pipeline takes for an image, a path, an address, base64 or an image, as something that can be opened."""
    if not isinstance(image, str) or os.path.isfile(image):
        return image
    if image.startswith(("http://", "https://")):
        with urlopen(Request(image, headers={"User-Agent": "hf_mlcl"}), timeout=timeout) as response:
            return io.BytesIO(response.read())
    try:
        return io.BytesIO(base64.b64decode(image.partition(",")[2] if image.startswith("data:image/") else image))
    except ValueError as error:
        raise ValueError(f"image: expected a path, an address or base64, got {image[:80]!r}") from error


def register() -> None:
    """Registers `MLCLPipeline`, and puts the others in the places of the stock ones, without a warning per process."""
    PIPELINE_REGISTRY.supported_tasks["multi-label-classification"] = {
        "impl": MLCLPipeline,
        "pt": (AutoModelForSequenceClassification, AutoModelForImageClassification),
        "type": "multimodal",
        "default": {},
    }
    for task, stock, own in (
        ("text-classification", TextClassificationPipeline, MLCLTextPipeline),
        ("image-classification", ImageClassificationPipeline, MLCLImagePipeline),
    ):
        entry = PIPELINE_REGISTRY.supported_tasks[task]
        if entry["impl"] in (stock, f"{stock.__module__}.{stock.__qualname__}"):  # not one that somebody registered
            entry["impl"] = own
