"""From a stream of texts with names of labels to a trained model, and what a stream gives up."""

import pytest
from datasets import IterableDataset
from toy import SIZES, toy_trainer
from transformers import AutoConfig, AutoModel

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.data import build_word_tokenizer, generated_corpus, preprocess_function


def rows_of(data, split):
    """Texts with lists of names; every tenth example is unlabelled."""
    for number, row in enumerate(data.splits[split]):
        labels = [name for name, has in zip(data.label_names, row["labels"], strict=True) if has]
        yield {"text": row["text"], "tags": None if number % 10 == 9 else labels}


@pytest.fixture(scope="module")
def corpus():
    return generated_corpus(64, 1, 1, num_labels=5, num_topics=2, imbalance=2)


def test_texts_and_names_of_a_stream_train_as_those_of_a_data_set_do(corpus, tmp_path):
    stream = IterableDataset.from_generator(rows_of, gen_kwargs={"data": corpus, "split": "train"})
    tokenizer = build_word_tokenizer(corpus.splits["train"]["text"], max_length=24)
    function = preprocess_function(tokenizer, corpus.label_names, label_column="tags")
    batches = []
    for source in (stream, corpus.splits["train"].from_list(list(rows_of(corpus, "train")))):
        train = source.map(function, batched=True, remove_columns=["text", "tags"])
        config = AutoConfig.for_model("bert", **(SIZES | {"vocab_size": len(tokenizer)}), hidden_dropout_prob=0.0)
        model = MLCLForSequenceClassification.from_encoder(AutoModel.from_config(config), labels=corpus.label_names)
        trainer = toy_trainer(tmp_path, model=model, train=train, max_steps=6, train_sampling_strategy="sequential")
        trainer.processing_class = trainer.data_collator.processor = tokenizer
        batches.append([batch["labels"] for batch in trainer.get_train_dataloader()])
        trainer.train()
        assert trainer.state.global_step == 6
    assert len(batches[0]) == 8 and all(first.equal(second) for first, second in zip(*batches, strict=True))
    assert sum(int((labels == -100).all(1).sum()) for labels in batches[0]) == 6


def test_a_shuffled_stream_has_another_order_in_each_pass(tmp_path):
    seen = []
    stream = IterableDataset.from_generator(
        lambda: ({"input_ids": [20 + k], "attention_mask": [1], "labels": [1, 0, 0, 0, 1]} for k in range(16))
    ).shuffle(seed=3, buffer_size=16)
    trainer = toy_trainer(tmp_path, train=stream, max_steps=6, eval_strategy="no")
    collate = trainer.data_collator

    def recorded(examples):
        seen.append([example["input_ids"][0] for example in examples])
        return collate(examples)

    trainer.data_collator = recorded
    trainer.train()
    passes = [seen[start] + seen[start + 1] for start in (0, 2, 4)]
    assert all(sorted(order) == list(range(20, 36)) for order in passes)
    assert len({tuple(order) for order in passes}) == 3
