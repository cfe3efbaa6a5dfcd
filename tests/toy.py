"""A tiny text model and a tiny learnable data set for the Trainer."""

import dataclasses

import datasets
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, TrainerCallback

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import MultiLabelCollator

NUM_LABELS = 5
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 40,
}


class Tokenizer:
    """Pads token lists; all that the collator asks of a tokenizer."""

    model_input_names = ["input_ids", "attention_mask"]
    padding_side = "right"

    def pad(self, features, padding=True, return_tensors="pt", **_):
        longest = max(len(feature["input_ids"]) for feature in features)
        ids = [list(f["input_ids"]) + [0] * (longest - len(f["input_ids"])) for f in features]
        mask = [[1] * len(f["input_ids"]) + [0] * (longest - len(f["input_ids"])) for f in features]
        return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}

    def save_pretrained(self, *_, **__):
        return ()


COLLATE = MultiLabelCollator(Tokenizer(), NUM_LABELS)


def toy_dataset(rows=48, seed=0):
    """Texts of 3 to 8 tokens in which token 10 + l announces label l."""
    rng = np.random.default_rng(seed)
    labels = rng.random((rows, NUM_LABELS)) < 0.35
    texts = [
        [1, *rng.permutation([*(10 + np.flatnonzero(row)), *rng.integers(20, 40, rng.integers(2, 6))]).tolist()]
        for row in labels
    ]
    masks = [[1] * len(text) for text in texts]
    features = datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("int64")),
            "attention_mask": datasets.List(datasets.Value("int8")),
            "labels": datasets.List(datasets.Value("bool"), length=NUM_LABELS),
        }
    )
    columns = {"input_ids": texts, "attention_mask": masks, "labels": labels.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


def with_lists(dataset):
    """The data set with `label_ids` in the place of `labels`; None where the row is unknown."""
    ids = [None if -100 in row else np.flatnonzero(row).tolist() for row in dataset["labels"]]
    feature = datasets.List(datasets.Value("int32"))
    return dataset.remove_columns("labels").add_column("label_ids", ids, feature=feature)


def toy_model(seed=0, dropout=0.1, **fields):
    """A one-layer BERT with `NUM_LABELS` labels."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "bert", **SIZES, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, pad_token_id=0
    )
    return MLCLForSequenceClassification.from_encoder(AutoModel.from_config(config), labels=NUM_LABELS, **fields)


def toy_trainer(folder, model=None, train_rows=48, callbacks=None, train=None, validation=None, own=None, **arguments):
    """A Trainer on CPU that logs every step and saves nothing unless told; `own` is a loss.

    What is no field of the arguments goes to the Trainer itself; a `model_init` takes the place of the model.
    """
    defaults = {
        "per_device_train_batch_size": 8,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "learning_rate": 1e-3,
    }
    fields = {field.name for field in dataclasses.fields(MLCLTrainingArguments)}
    options = {name: arguments.pop(name) for name in arguments.keys() - fields}
    return MLCLTrainer(
        model=toy_model() if model is None and "model_init" not in options else model,
        args=MLCLTrainingArguments(output_dir=str(folder), **(defaults | arguments)),
        train_dataset=toy_dataset(train_rows) if train is None else train,
        eval_dataset=toy_dataset(30, seed=1) if validation is None else validation,
        callbacks=callbacks,
        loss=own,
        **{"processing_class": Tokenizer(), **options},
    )


TIMES = ("runtime", "per_second", "preparation_time", "train_loss")  # `train_loss` is that of the steps of one call


def losses(trainer):
    """The losses that were logged."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logs(trainer):
    """What was logged, without times."""
    return [
        {name: value for name, value in entry.items() if not any(word in name for word in TIMES)}
        for entry in trainer.state.log_history
    ]


def same(left, right):
    """Whether two structures of tensors and values are bit-identical."""
    if isinstance(left, torch.Tensor):
        return left.equal(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


class KeepGradients(TrainerCallback):
    """The gradients of every step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.steps.append({name.removeprefix("module."): g.clone() for name, g in gradients(model).items()})


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def step_gradients(model, data, accumulation=1, collate=COLLATE):
    """The gradients of one step on all of the data, by the model alone."""
    model.train().freeze_unused_parameters()
    rows = [data[i] for i in range(len(data))]
    size = len(rows) // accumulation
    for start in range(0, len(rows), size):
        (model(**collate(rows[start : start + size])).loss / accumulation).backward()
    return gradients(model)


def relative_difference(found, expected):
    """Largest difference of two dicts of tensors, relative to the largest entry."""
    assert found.keys() == expected.keys() and expected
    largest = max(tensor.abs().max() for tensor in expected.values())
    assert largest > 0
    return (max((found[name] - tensor).abs().max() for name, tensor in expected.items()) / largest).item()
