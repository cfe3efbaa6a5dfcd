import io

import datasets
import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import prepare_images
from hf_mlcl.inspection.outputs import Examples, collect_outputs, decodable_images


class Tokenizer:
    """Pads token lists; all that the collator asks of a tokenizer."""

    model_input_names = ["input_ids", "attention_mask"]

    def pad(self, features, padding=True, return_tensors="pt", **_):
        longest = max(len(feature["input_ids"]) for feature in features)
        ids = [list(f["input_ids"]) + [0] * (longest - len(f["input_ids"])) for f in features]
        return {"input_ids": torch.tensor(ids), "attention_mask": (torch.tensor(ids) > 0).long()}


def test_outputs_come_in_the_order_of_the_data_and_leave_the_model_as_it_was():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    encoder = AutoModel.from_config(AutoConfig.for_model("bert", **sizes, vocab_size=30, hidden_dropout_prob=0.5))
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=3, projection_dim=8)
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 30, size).tolist() for size in (3, 9, 5, 2, 7)]
    data = Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
    model.train()
    outputs = collect_outputs(model, data, Tokenizer(), batch_size=2)
    assert model.training
    model.eval()
    for row, tokens in enumerate(ids):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([tokens]))
        for name in ("logits", "embeddings", "features"):
            np.testing.assert_allclose(getattr(outputs, name)[row], getattr(alone, name)[0], atol=1e-5)
    np.testing.assert_array_equal(outputs.prototypes, model.prototypes.weight.detach())


def test_rows_of_corrupt_images_are_left_out_as_preparation_does():
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, format="PNG")
    cells = [file.getvalue(), b"no image", file.getvalue(), None]
    features = datasets.Features(
        {"image": datasets.Image(), "labels": datasets.List(datasets.Value("bool"), length=2)}
    )
    labels = [[True, False], [False, False], [False, True], [True, True]]
    column = [None if cell is None else {"bytes": cell, "path": None} for cell in cells]
    split = Dataset.from_dict({"image": column, "labels": labels}, features=features)
    kept = decodable_images(split)
    assert kept["labels"][:] == [labels[0], labels[2]]
    prepared = prepare_images(split, None, corrupt_images="skip")
    np.testing.assert_array_equal(prepared.labels, kept["labels"][:])
    assert Examples(kept).thumbnail(1)
