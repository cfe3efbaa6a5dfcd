"""A training loop of your own, on one process or several: `accelerate launch scripts/accelerate_loop.py [FOLDER]`.

Trains a small text encoder from scratch on a generated corpus, without a download: put your model and data in place of
`example`, the rest stays.
"""

import sys

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModel, get_cosine_schedule_with_warmup, set_seed

from hf_mlcl import MLCLForSequenceClassification, MLCLTrainer, MLCLTrainingArguments
from hf_mlcl.data import MultiLabelCollator, build_word_tokenizer, generated_corpus, prepare_text
from hf_mlcl.models import MLCLOutput
from hf_mlcl.training import gather_references


def training_loss(accelerator, model, batch):
    """The objective of a batch, each example contrasted with those of all processes."""
    outputs = model(**{name: value for name, value in batch.items() if name != "labels"})
    embeddings, logits, labels = gather_references(outputs.embeddings, outputs.logits, labels=batch["labels"])
    every = MLCLOutput(embeddings=embeddings, logits=logits, prototypes=outputs.prototypes)
    return accelerator.unwrap_model(model).objective_losses(every, labels)["loss"]


def train(accelerator, model, loader, optimizer, scheduler, epochs):
    """The loop, on what `accelerator.prepare` gave; returns the loss of each step on this process."""
    losses = []
    model.train()
    for _ in range(epochs):
        for batch in loader:
            loss = training_loss(accelerator, model, batch)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
    model.eval()
    return losses


def example():
    """An untrained model, its tokenizer, and splits with `input_ids`, `attention_mask` and multi-hot `labels`."""
    data = generated_corpus(1500, 300, 300)
    tokenizer = build_word_tokenizer(data.splits["train"]["text"], max_length=64)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = MLCLForSequenceClassification.from_encoder(
        AutoModel.from_config(config), labels=data.label_names, pooling="mean", loss="reg"
    )
    return model, tokenizer, {name: prepare_text(split, tokenizer) for name, split in data.splits.items()}


def main(folder="accelerate-loop", epochs=4, batch_size=64):
    set_seed(0)
    accelerator = Accelerator()
    with accelerator.main_process_first():
        model, tokenizer, splits = example()
    # Data parallelism waits for the gradient of each parameter that wants one: those that get none must not.
    model.freeze_unused_parameters()
    # A last batch that accelerate fills up with repeated examples would count them as positives: it is dropped.
    collator = MultiLabelCollator(tokenizer, model.config.num_labels)
    loader = DataLoader(splits["train"], batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=collator)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps = epochs * len(loader)
    scheduler = get_cosine_schedule_with_warmup(optimizer, steps // 20, steps)
    losses = train(accelerator, model, loader, optimizer, scheduler, epochs)
    accelerator.print(f"loss of the first step {losses[0]:.3f}, of the last {losses[-1]:.3f}")

    # The classifier is fitted by the Trainer, which need not have trained the encoder.
    trainer = MLCLTrainer(
        model=accelerator.unwrap_model(model),
        args=MLCLTrainingArguments(output_dir=folder),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
    )
    trainer.fit_classifier()
    accelerator.print(f"test Macro-F1 {trainer.evaluate(splits['test'])['eval_macro_f1']:.3f}")
    trainer.save_model()
    accelerator.end_training()  # several processes part in order


if __name__ == "__main__":
    main(*sys.argv[1:])
