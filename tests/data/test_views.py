"""Two views of an example: other augmentations of the same image, the same text twice."""

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from transformers import ViTImageProcessor

from hf_mlcl.data import MultiLabelCollator, RandAugment, prepare_images
from hf_mlcl.data.sampler import Views


def images(rows=6):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)) for _ in range(rows)]
    labels = (rng.random((rows, 3)) < 0.5).tolist()
    split = Dataset.from_dict({"image": pictures, "labels": labels})
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    return prepare_images(split, processor, augmentation=RandAugment(), seed=3)


def batch(views, indices, dataset):
    collate = MultiLabelCollator(dataset.image_processor, 3)
    return collate(Views(dataset, views).__getitems__(indices))


def test_a_batch_holds_each_example_so_many_times_with_its_labels():
    dataset = images()
    once, thrice = batch(1, [4, 0], dataset), batch(3, [4, 0], dataset)
    assert thrice["pixel_values"].shape[0] == 6 and len(Views(dataset, 3)) == 6
    assert thrice["labels"].equal(once["labels"].repeat(3, 1))
    assert thrice["pixel_values"][:2].equal(once["pixel_values"])  # view 0 is what there is without views


def test_views_of_an_image_differ_and_depend_on_the_epoch_and_the_seed_alone():
    dataset = images()
    pixels = batch(2, [1, 2, 3], dataset)["pixel_values"]
    assert not any(torch.equal(pixels[row], pixels[row + 3]) for row in range(3))
    assert pixels.equal(batch(2, [1, 2, 3], images())["pixel_values"])
    shared = Views(dataset, 2)
    dataset.set_epoch(1)  # also seen by views made before
    later = torch.stack([item["pixel_values"] for item in shared.__getitems__([1, 2, 3])])
    assert not later.equal(pixels) and later.equal(batch(2, [1, 2, 3], dataset)["pixel_values"])


def test_views_of_other_data_sets_are_repetitions():
    rows = Dataset.from_dict({"input_ids": [[1], [2, 3]], "labels": [[0, 1], [1, 0]]})
    items = Views(rows, 2).__getitems__([1, 0])
    assert [item["input_ids"] for item in items] == [[2, 3], [1]] * 2
    assert Views([5, 6], 2).__getitems__([0, 1]) == [5, 6, 5, 6]
