"""Training on images: augmentation that depends on the epoch, and resuming with it."""

import torch
from transformers import AutoConfig, AutoModel, ViTImageProcessor

from hf_mlcl import MLCLForImageClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import RandAugment, digit_canvases, prepare_images


def trainer_on_images(folder, seed=0):
    data = digit_canvases(24, 16, 1)
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(seed)
    encoder = AutoModel.from_config(AutoConfig.for_model("vit", **sizes, image_size=16, patch_size=8))
    return MLCLTrainer(
        model=MLCLForImageClassification.from_encoder(encoder, labels=data.label_names),
        args=MLCLTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=8,
            num_train_epochs=3,
            save_strategy="steps",
            save_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=prepare_images(data.splits["train"], processor, augmentation=RandAugment()),
        eval_dataset=prepare_images(data.splits["validation"], processor),
        processing_class=processor,
    )


def test_resuming_with_augmentation_is_bit_identical(tmp_path):
    whole = trainer_on_images(tmp_path)
    whole.train()
    for checkpoint in (2, 6):
        resumed = trainer_on_images(tmp_path / "again", seed=9)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
        for name, tensor in whole.model.state_dict().items():
            assert resumed.model.state_dict()[name].equal(tensor), name


def test_every_epoch_is_told_and_augments_anew(tmp_path):
    trainer = trainer_on_images(tmp_path)
    data, epochs, first = trainer.train_dataset, [], []
    set_epoch = data.set_epoch

    def recorded(epoch):
        set_epoch(epoch)
        epochs.append(epoch)
        first.append(torch.stack([data[i]["pixel_values"] for i in range(4)]))

    data.set_epoch = recorded
    trainer.train()
    assert sorted(set(epochs)) == [0, 1, 2]
    pictures = dict(zip(epochs, first, strict=True))
    assert not pictures[0].equal(pictures[1]) and not pictures[1].equal(pictures[2])


def test_features_are_of_plain_images(tmp_path):
    trainer = trainer_on_images(tmp_path)
    augmented, _ = trainer.features(trainer.train_dataset)
    plain, _ = trainer.features(trainer.train_dataset.without_augmentation())
    assert (augmented == plain).all()


def test_the_best_checkpoint_is_really_loaded(tmp_path):
    """Its weights are stored under older names than the model's own."""
    trainer = trainer_on_images(tmp_path)
    trainer.train()
    best = MLCLForImageClassification.from_pretrained(tmp_path / "checkpoint-1")
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-1")
    trainer._load_best_model()
    for name, tensor in best.state_dict().items():
        assert trainer.model.state_dict()[name].equal(tensor), name
