import io

import datasets
import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from toy import Tokenizer, toy_model

from hf_mlcl.data import prepare_images
from hf_mlcl.inspection.outputs import Examples, collect_outputs, decodable_images


def test_outputs_come_in_the_order_of_the_data_and_leave_the_model_as_it_was():
    model = toy_model(dropout=0.5, projection_dim=8)
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 30, size).tolist() for size in (3, 9, 5, 2, 7)]
    masks, lists = [[1] * len(row) for row in ids], [[0], [1], [], [0, 1], [2]]
    data = Dataset.from_dict({"input_ids": ids, "attention_mask": masks, "label_ids": lists})
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
