"""Queue and momentum encoder: what they hold, what anchors are contrasted with, and what stays out of the model."""

import contextlib
import copy

import pytest
import torch
from distributed_job import CONSTANT, QUEUE, KeepQueue
from toy import COLLATE, same, toy_dataset, toy_model, toy_trainer
from transformers import TrainerCallback

from hf_mlcl import MLCLForSequenceClassification
from hf_mlcl.losses import build_loss
from hf_mlcl.training.key_queue import KeyQueue, MomentumEncoder


def test_a_queue_holds_the_last_rows_and_is_filled_from_empty():
    queue, all_rows = KeyQueue(7), []
    for step, size in enumerate((3, 2, 9, 1, 7, 4)):
        new = torch.arange(size) + 10 * step
        keys = queue.join(new[:, None].float(), new, labels=new[:, None] % 2)
        assert keys.ids.tolist() == new.tolist() + all_rows[-7:] and keys.anchor_ids.equal(new)
        assert keys.labels.flatten().tolist() == [number % 2 for number in keys.ids.tolist()]
        all_rows += new.tolist()
        assert queue.rows[2].tolist() == all_rows[-7:]
    empty = KeyQueue(0)
    for _ in range(2):
        assert empty.join(new[:, None].float(), new, labels=new[:, None]).ids.equal(new)


def test_labels_in_a_queue_are_small_and_lists_padded_to_the_longest():
    queue = KeyQueue(3)
    for lists in ([[1], [2]], [[3, 4, 5]], [[6, 7]]):
        keys = queue.join(torch.zeros(len(lists), 1), torch.arange(len(lists)), labels=torch.tensor(lists))
    assert queue.rows[1].tolist() == [[2, -1, -1], [3, 4, 5], [6, 7, -1]]
    assert keys.labels.tolist() == [[6, 7, -1], [1, -1, -1], [2, -1, -1], [3, 4, 5]]
    for rows, expected in (([[1.0, 0.0, -100.0, torch.nan]], [[1, 0, -100, -100]]), ([[True, False]], [[1, 0]])):
        labels = torch.tensor(rows)
        keys = KeyQueue(1).join(torch.zeros(1, 1), torch.zeros(1).long(), labels=labels)
        assert keys.labels.tolist() == expected and keys.labels.dtype == torch.int8


class Watch(TrainerCallback):
    """What the objective was computed from at each step, the weights after each, and the momentum encoder's."""

    def __init__(self):
        self.keys, self.batches, self.losses, self.weights, self.momentum = [], [], [], [], []

    def attach(self, trainer):
        self.trainer, core = trainer, trainer.core_model
        objective = core.objective_losses
        self.weights.append(copy.deepcopy(core.state_dict()))

        def watched(output, labels, keys=None):
            losses = objective(output, labels, keys)
            self.keys.append(keys)
            self.batches.append((output.embeddings.detach(), labels, output.prototypes.detach()))
            self.losses.append(losses["contrastive_loss"].item())
            return losses

        core.objective_losses = watched

    def on_step_end(self, args, state, control, **kwargs):
        self.weights.append(copy.deepcopy(self.trainer.core_model.state_dict()))
        encoder = self.trainer._queue.encoder
        self.momentum.append(None if encoder is None else copy.deepcopy(encoder.model.state_dict()))


def queue_model():
    return toy_model(projection_dim=8).double()


def watched_run(folder, **arguments):
    watch, options = Watch(), {"queue_size": 20, "max_steps": 6, **CONSTANT, **arguments}
    trainer = toy_trainer(folder, model=queue_model(), callbacks=[watch], **options)
    watch.attach(trainer)
    trainer.train()
    return watch, trainer


def labels_of(data, ids):
    return torch.tensor(data["labels"])[ids].to(torch.int8)


@pytest.mark.parametrize("arguments", [{}, {"momentum": 0.9}, {"momentum": 0.0}, {"queue_size": 0, "momentum": 0.9}])
def test_keys_are_those_of_the_batch_and_of_those_before(arguments, tmp_path):
    watch, trainer = watched_run(tmp_path, **arguments)
    size, past_keys, past_ids = arguments.get("queue_size", 20), torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64)
    for step, (keys, (embeddings, labels, prototypes)) in enumerate(zip(watch.keys, watch.batches, strict=True)):
        own, ids = keys.embeddings[:8], keys.ids[:8]
        assert keys.anchor_ids.equal(ids) and len(set(ids.tolist())) == 8
        assert keys.labels.equal(labels_of(trainer.train_dataset, keys.ids))
        assert keys.labels[:8].equal(labels.to(torch.int8))
        assert keys.embeddings[8:].equal(past_keys[-size:] if size else past_keys[:0])
        assert keys.ids[8:].equal(past_ids[-size:] if size else past_ids[:0])
        if "momentum" not in arguments:
            assert own.equal(embeddings)
        else:  # the copy's embeddings without dropout
            model = queue_model()
            model.load_state_dict(watch.weights[0] if step == 0 else watch.momentum[step - 1])
            batch = COLLATE([trainer.train_dataset[i] for i in ids.tolist()])
            batch.pop("labels")
            torch.testing.assert_close(own, model.encode(normalize=False, **batch).clone())
        expected = build_loss("reg")(embeddings, labels, prototypes, keys=keys)
        assert watch.losses[step] == pytest.approx(expected.item(), rel=1e-12)
        past_keys, past_ids = torch.cat([past_keys, own]), torch.cat([past_ids, ids])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_momentum_encoder_follows_once_a_step(accumulation, tmp_path):
    watch, _ = watched_run(tmp_path, momentum=0.75, gradient_accumulation_steps=accumulation, max_steps=3)
    expected = dict(watch.weights[0])
    for after, found in zip(watch.weights[1:], watch.momentum, strict=True):
        expected = {name: 0.75 * old + 0.25 * after[name] for name, old in expected.items()}
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name])
    moved = [name for name, tensor in found.items() if not tensor.equal(watch.weights[0][name])]
    assert "projection.output.weight" in moved and any(name.startswith("encoder") for name in moved)
    assert len(watch.keys) == 3 * accumulation  # every micro-batch goes through the queue


def test_the_copy_is_made_of_loaded_weights_and_does_not_run_the_original(tmp_path):
    toy_model(seed=3).save_pretrained(tmp_path)
    model = MLCLForSequenceClassification.from_pretrained(tmp_path)
    original = model.forward
    model.forward = lambda **inputs: original(**inputs)  # as accelerate's autocast does
    encoder = MomentumEncoder(model, 0.5, lambda inputs: [inputs], contextlib.nullcontext)
    batch = {"input_ids": torch.tensor([[1, 20, 30]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    before = encoder.keys(batch)
    assert before.equal(model.encode(normalize=False, **batch))
    torch.nn.init.zeros_(model.projection.output.weight)
    assert encoder.keys(batch).equal(before)
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


@pytest.mark.parametrize("loss", ["reg", "msc", "base", "mulsupcon"])
def test_the_log_counts_positives_among_the_keys_of_all_losses_and_prototypes_learn(loss, tmp_path):
    watch, trainer = watched_run(tmp_path, loss=loss, momentum=0.9, max_steps=3)
    first, last = watch.weights[0]["prototypes.weight"], watch.weights[-1]["prototypes.weight"]
    assert first.equal(last) == (loss in ("base", "mulsupcon"))
    logs = [log for log in trainer.state.log_history if "positives_per_anchor" in log]
    for log, keys, (_, labels, _) in zip(logs, watch.keys, watch.batches, strict=True):
        shared = (labels > 0).float() @ (keys.labels > 0).float().T > 0
        shared &= keys.anchor_ids[:, None] != keys.ids
        counts = shared.sum(1)[(labels > 0).any(1)].tolist()
        assert log["positives_per_anchor"] == pytest.approx(sum(counts) / len(counts), abs=1e-4)
        assert log["anchors_without_positives"] == pytest.approx(counts.count(0) / len(counts), abs=1e-4)


def test_state_is_in_checkpoints_and_never_in_the_model(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    _, trainer = watched_run(tmp_path / "run", momentum=0.9, **options)
    state = torch.load(tmp_path / "run" / "checkpoint-2" / "references.pt")
    assert [len(rows) for rows in state["queue"]] == [16] * 3
    trainer.save_model(str(tmp_path / "model"))
    assert trainer.model.state_dict().keys() == toy_model().state_dict().keys()
    toy_trainer(tmp_path / "plain", **options).train()
    assert [path.parent.parent.name for path in tmp_path.glob("**/references.pt")] == ["run"]


@pytest.mark.parametrize(
    "arguments", [{"train_sampling_strategy": "group_by_length"}, {"views": 2}, {"dataloader_num_workers": 1}]
)
def test_positions_reach_the_batch_and_no_column_is_in_the_way(arguments, tmp_path):
    data = toy_dataset().add_column("text", ["x"] * 48)
    for train in (data, torch.utils.data.Subset(data, range(48))):
        watch, _ = watched_run(tmp_path, train=train, max_steps=2, **arguments)
        for keys in watch.keys:
            assert keys.labels.equal(labels_of(data, keys.ids))
        if "views" in arguments:
            assert keys.anchor_ids[:8].equal(keys.anchor_ids[8:])


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_the_queue_is_the_same_in_all_processes_and_that_of_one(ranks, momentum, tmp_path):
    (rows, state), (others, _) = (ranks(f"queue-{momentum}-{rank}") for rank in (0, 1))
    assert same(rows, others)
    keep, model = KeepQueue(), toy_model(dropout=0.0, projection_dim=8).double()
    keep.trainer = toy_trainer(tmp_path, model=model, callbacks=[keep], **QUEUE, momentum=momentum)
    keep.trainer.train()
    torch.testing.assert_close(list(rows), list(keep.rows), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(dict(state), dict(model.state_dict()), rtol=1e-6, atol=1e-8)


def test_a_queue_of_a_stream_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train_dataset: queue_size"):
        toy_trainer(tmp_path, train=toy_dataset().to_iterable_dataset(), queue_size=9, max_steps=2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_weights_cannot_follow_slowly(dtype, tmp_path):
    with pytest.raises(ValueError, match=f"momentum=0.99 .* {str(dtype).removeprefix('torch.')}"):
        toy_trainer(tmp_path, model=toy_model().to(dtype), momentum=0.99)
    model = toy_model().to(dtype)
    model.projection.float(), model.prototypes.float(), model.encoder.requires_grad_(False)
    toy_trainer(tmp_path, model=model, momentum=0.99)  # what is frozen need not move
