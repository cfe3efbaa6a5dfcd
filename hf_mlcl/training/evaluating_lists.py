"""`ListEvaluatingTrainer`: features travel where logits of all labels would be too many. Imports data, evaluation."""

from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from hf_mlcl.data.label_lists import LABEL_IDS, LabelLists, too_large_for_rows
from hf_mlcl.evaluation import LinearScores
from hf_mlcl.models.modeling_mlcl import MLCLOutput

from .classifier import classifier_parameters
from .gradient_cache import CachingTrainer
from .replacing import replaced
from .shards import whole


class ListEvaluatingTrainer(CachingTrainer):
    """Adds to the Trainer the evaluation of examples with label lists.

    Processes exchange features and lists. Predictions are `LinearScores`, logits that are made when they are asked
    for, and labels `LabelLists`. A `compute_metrics` of the user gets arrays where they take less
    than 1 GiB; `preprocess_logits_for_metrics` of the user gets the logits of each batch, and lists padded with -1.
    """

    _of_lists = False

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> Any:
        """As the Trainer's; of inputs with `label_ids` it returns features and these."""
        if LABEL_IDS not in inputs:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if self.preprocess_logits_for_metrics is None:
            self._of_lists = True
            ignore_keys = [name for name in MLCLOutput.__dataclass_fields__ if name != "features"]
        with replaced(self, label_names=[LABEL_IDS]):
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; see `ListEvaluatingTrainer`."""
        self._of_lists = False
        compute = self.compute_metrics

        def metrics(prediction: EvalPrediction, **options: Any) -> Any:
            if self._of_lists:
                values: Any
                labels: Any
                values, labels = self._scores_and_lists(prediction.predictions, prediction.label_ids)
                if compute != self._score and not too_large_for_rows(*labels.shape):  # type: ignore[attr-defined]
                    values, labels = np.asarray(values), np.asarray(labels)
                prediction = EvalPrediction(values, labels, inputs=prediction.inputs, losses=prediction.losses)
            return compute(prediction, **options)  # type: ignore[misc]

        with replaced(self, compute_metrics=None if compute is None else metrics):
            output = super().evaluation_loop(*args, **kwargs)
        if self._of_lists and output.predictions is not None and output.label_ids is not None:
            scores, lists = self._scores_and_lists(output.predictions, output.label_ids)
            output = output._replace(predictions=scores, label_ids=lists)  # type: ignore[arg-type]
        return output

    def _scores_and_lists(self, features: Any, label_ids: Any) -> tuple[LinearScores, LabelLists]:
        rows, lists = (
            array.detach().float().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
            for array in (features, label_ids)
        )
        lists = lists.astype(np.int64)
        parameters = classifier_parameters(self.core_model)
        if hasattr(parameters[0], "ds_id"):
            raise ValueError("label_ids: expected whole parameters, got DeepSpeed ZeRO-3 shards; load the saved model")
        # Copies: whoever changes the classifier afterwards, as calibration does, must not change these scores.
        weight, bias = (whole(p).to("cpu", torch.float32, copy=True).numpy() for p in parameters)
        scores = LinearScores(rows.astype(np.float32, copy=False), weight, bias)
        return scores, LabelLists.from_padded(lists, len(weight))
