"""Gradient caching: a step equals the same chunks run with gradient, and what it holds follows the chunk."""

import pytest
import torch
from distributed_job import CACHED_STEPS, WithUnknownLabels, cached_trainer, held_trainer, image_trainer, step
from peft import LoraConfig, get_peft_model
from toy import KeepGradients, relative_difference, step_gradients, toy_dataset, toy_model, toy_trainer

MAKERS = {"held": held_trainer, "cached": cached_trainer}


def double_model():
    return toy_model().double()


def lora_model():
    config = LoraConfig(
        r=2,
        lora_dropout=0.1,
        target_modules=["query", "value"],
        modules_to_save=["projection", "prototypes", "classifier"],
    )
    model = double_model()
    model.name_or_path = "toy"  # an adapter names what it stands on
    return get_peft_model(model, config)


def both(tmp_path, model=double_model, chunk=3, unknown=False, **arguments):
    """Gradients and logs of three steps, held and cached, and the random state afterwards."""
    for name, make in MAKERS.items():
        gradients = KeepGradients()
        options = {"model": model(), "max_steps": 3, "max_grad_norm": 0, "callbacks": [gradients], **arguments}
        built = make(tmp_path / name, chunk, **options)
        if unknown:
            built.data_collator = WithUnknownLabels(built.data_collator)
        built.train()
        logs = [
            {key: log[key] for key in log if "loss" in key or "positives" in key}
            for log in built.state.log_history
            if "loss" in log
        ]
        yield gradients.steps, logs, torch.rand(1).item()


CASES = {
    "contrastive": {},
    "joint": {"objective": "joint"},
    "classification": {"loss": "zlpr"},
    "without prototypes": {"loss": "base"},
    "msc": {"loss": "msc"},
    "accumulation 2": {"gradient_accumulation_steps": 2},
    "accumulation 4, joint": {"gradient_accumulation_steps": 4, "objective": "joint"},
    "unknown labels": {"unknown": True, "objective": "joint"},
    "views": {"views": 2},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "LoRA": {"model": lora_model},
    "LoRA, joint, checkpointing": {"model": lora_model, "objective": "joint", "gradient_checkpointing": True},
    "queue and momentum": {"queue_size": 20, "momentum": 0.9, "gradient_accumulation_steps": 2},
    "queue, joint, msc": {"queue_size": 20, "objective": "joint", "loss": "msc"},
    "one row a chunk": {"chunk": 1},
    "chunks of half a batch": {"chunk": 4},
}


@pytest.mark.parametrize("case", CASES)
def test_steps_equal_the_same_chunks_run_with_gradient(case, tmp_path):
    (expected, expected_logs, expected_random), (found, logs, random) = both(tmp_path, **CASES[case])
    assert len(found) == len(expected) == 3
    for step_found, step_expected in zip(found, expected, strict=True):
        assert relative_difference(step_found, step_expected) <= 1e-6
    assert random == expected_random
    assert len(logs) == len(expected_logs) == 3
    for log, expected_log in zip(logs, expected_logs, strict=True):
        assert log == pytest.approx(expected_log, abs=1.1e-4)  # logs are rounded


def test_under_autocast(tmp_path):
    (expected, *_), (found, *_) = both(tmp_path, model=toy_model, bf16=True, objective="joint", max_steps=1)
    assert relative_difference(found[0], expected[0]) <= 1e-2


def test_gradients_are_scaled_as_a_loss_is(tmp_path):
    """What fp16 needs: the loss scaler sees every backward pass."""
    gradients = []
    for scale in (1.0, 1024.0):
        kept = KeepGradients()
        trainer = cached_trainer(tmp_path, 3, model=double_model(), max_steps=1, max_grad_norm=0, callbacks=[kept])
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.train()
        gradients.append({name: gradient / scale for name, gradient in kept.steps[0].items()})
    assert relative_difference(*gradients) <= 1e-12


def test_images_with_frozen_batch_norm(tmp_path):
    """Without it each chunk would have statistics of its own."""
    found, expected = (
        step(tmp_path, None, None, image_trainer, gradient_cache_chunk_size=chunk)[1] for chunk in (3, None)
    )
    assert relative_difference(found, expected) <= 1e-6


class Peak:
    """The largest number of entries that graphs hold at once for backward passes."""

    def __init__(self):
        self.held = self.largest = 0

    def pack(self, tensor):
        class Saved:
            def __init__(saved):
                saved.tensor = tensor
                self.held += tensor.numel()
                self.largest = max(self.largest, self.held)

            def __del__(saved):
                self.held -= saved.tensor.numel()

        return Saved()


def test_what_is_held_for_backward_passes_follows_the_chunk(tmp_path):
    def peak(rows, chunk):
        counted, options = Peak(), {"max_steps": 1, "per_device_train_batch_size": rows}
        model, data = toy_model(projection_dim=4), toy_dataset(rows)
        trainer = cached_trainer(tmp_path, chunk, model=model, train=data, **options)
        with torch.autograd.graph.saved_tensors_hooks(counted.pack, lambda saved: saved.tensor):
            trainer.train()
        return counted.largest

    whole, small, large = peak(256, None), peak(64, 8), peak(256, 8)
    assert large < whole / 4
    assert large - small < (whole - large) / 8  # embeddings and labels are all that grows


@pytest.mark.parametrize("case", CACHED_STEPS, ids=str)
def test_two_processes_equal_held_chunks_and_one_process_and_synchronise_as_often(ranks, case):
    (held, synchronised), (cached, as_often) = ranks("cached")[case]
    assert relative_difference(cached, held) <= 1e-6
    assert as_often == synchronised > 0
    objective, accumulation, _, dropout = case
    if dropout == 0:
        model = toy_model(dropout=0.0, objective=objective).double()
        assert relative_difference(cached, step_gradients(model, toy_dataset(16), accumulation)) <= 1e-6


def test_the_last_chunk_of_one_process_runs_once(tmp_path):
    trainer = toy_trainer(tmp_path, gradient_cache_chunk_size=3, train=toy_dataset(8), max_steps=1)
    trainer.eval_dataset = None  # with which the encoder would be measured before training
    with_gradient = []
    trainer.model.register_forward_hook(lambda *_: with_gradient.append(torch.is_grad_enabled()))
    trainer.train()
    assert with_gradient == [False, False, True, True, True]  # 3, 3 and 2 rows; then the first two once more
