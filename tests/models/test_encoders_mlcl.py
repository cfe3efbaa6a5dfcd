"""Every architecture of the table: three training steps of each stage, saving and loading, checkpointing, memory."""

import contextlib
import importlib.util
import logging
import os
import tempfile

import pytest
import torch
from tiny import ENCODERS, SIZES, TEXT, tiny_encoder, tiny_inputs
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoConfig, AutoModel, T5Model

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.models.encoders_mlcl import unused_parameters

LABELS = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]])
kinds = pytest.mark.parametrize("kind", ENCODERS)


def model_class(kind):
    return MLCLForSequenceClassification if kind in TEXT else MLCLForImageClassification


def tiny_model(kind, **fields):
    return model_class(kind).from_encoder(tiny_encoder(kind), labels=3, projection_dim=8, **fields).eval()


@contextlib.contextmanager
def unwritten_memory_is_nan():
    """Weights or buffers that loading left as it found them would show."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def process_group():
    """A group of one process, in which data parallelism still insists on a gradient for every parameter."""
    store = os.path.join(tempfile.mkdtemp(), "store")
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@kinds
@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_three_steps_reach_every_parameter_under_data_parallelism(process_group, kind, objective):
    model = tiny_model(kind, objective=objective).train()
    model.freeze_unused_parameters()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    parallel = DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for step in range(3):
        optimizer.zero_grad()
        loss = parallel(**tiny_inputs(kind, seed=step), labels=LABELS).loss
        loss.backward()
        with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        assert loss.isfinite() and with_gradient == trained
        optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not parameter.equal(before[name])}
    assert moved <= trained and any(name.startswith("encoder.") for name in moved)
    assert ("classifier.weight" in trained) == (objective != "contrastive")
    assert ("prototypes.weight" in trained) == (objective != "classification")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@kinds
def test_pooled_features_depend_on_all_weights_but_the_unused(kind):
    """What the graph of one pass says is what an optimizer would see: the weights that get a gradient."""
    model = tiny_model(kind)
    unused = {id(parameter) for parameter in unused_parameters(model.encoder, model.config.pooling)}
    model(**tiny_inputs(kind)).features.sum().backward()
    assert {id(p) for p in model.encoder.parameters() if p.grad is None} == unused


@kinds
def test_saving_in_shards_and_loading_is_bit_identical(kind, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    with unwritten_memory_is_nan():
        loaded = model_class(kind).from_pretrained(tmp_path)
    expected = dict(model.named_parameters()) | dict(model.named_buffers())
    found = dict(loaded.named_parameters()) | dict(loaded.named_buffers())
    assert found.keys() == expected.keys() and not loaded.training
    for name, tensor in expected.items():
        assert found[name].equal(tensor), name
    for name, value in model(**tiny_inputs(kind)).items():
        assert loaded(**tiny_inputs(kind))[name].equal(value), name


@kinds
def test_checkpointing_changes_no_gradient(kind):
    model = tiny_model(kind, objective="joint").train()
    if not model.supports_gradient_checkpointing:
        pytest.skip("the encoder has no gradient checkpointing")
    gradients = []
    for _ in range(2):
        model.zero_grad()
        torch.manual_seed(0)
        model(**tiny_inputs(kind), labels=LABELS).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing and gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@kinds
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_implementations_agree(kind, implementation, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    if "attention" in kind or not getattr(type(model.encoder), "_supports_sdpa", False):
        pytest.skip("the encoder has one implementation of attention, or none")
    loaded = model_class(kind).from_pretrained(tmp_path, attn_implementation=implementation)
    assert loaded.encoder.config._attn_implementation == implementation
    torch.testing.assert_close(
        loaded(**tiny_inputs(kind)).logits, model(**tiny_inputs(kind)).logits, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["bert", "vit", "resnet"])
def test_another_number_of_labels_starts_new_heads_on_the_loaded_encoder(kind, tmp_path):
    model = tiny_model(kind)
    model.save_pretrained(tmp_path)
    with unwritten_memory_is_nan():
        loaded = model_class(kind).from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert loaded.classifier.weight.shape[0] == loaded.prototypes.weight.shape[0] == 7
    assert loaded.prototypes.weight.std() > 0 and loaded.classifier.weight.isfinite().all()
    assert loaded.classifier.bias.eq(0).all()
    torch.testing.assert_close(loaded(**tiny_inputs(kind)).embeddings, model(**tiny_inputs(kind)).embeddings)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "vit", "clip_vision_model"])
def test_an_encoder_folder_loads_without_uninitialised_memory(kind, tmp_path):
    tiny_encoder(kind).save_pretrained(tmp_path)
    with unwritten_memory_is_nan():
        model = model_class(kind).from_encoder(str(tmp_path), labels=3)
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    assert all(x.isfinite().all() for x in tensors.values() if x.is_floating_point())
    expected = tiny_encoder(kind).eval()(**tiny_inputs(kind)).last_hidden_state
    torch.testing.assert_close(model.encoder.eval()(**tiny_inputs(kind)).last_hidden_state, expected)


# --- checkpoints that hold more than an encoder ---


def dual(kind):
    text = {"vocab_size": 60, "max_position_embeddings": 40, "hidden_size": 32, "num_attention_heads": 2}
    text = ENCODERS["clip_text_model"] if kind == "clip" else text | {"num_hidden_layers": 1}
    towers = {"text_config": text, "vision_config": ENCODERS[f"{kind}_vision_model"]}
    return AutoModel.from_config(AutoConfig.for_model(kind, **towers)).eval()


def t5():
    return T5Model(AutoConfig.for_model("t5", **ENCODERS["t5"])).eval()


@pytest.mark.parametrize(
    ("make", "part", "kind", "pooling"),
    [
        (t5, "encoder", "t5", "mean"),
        (lambda: dual("clip"), "vision_model", "clip_vision_model", "pooled"),
        (lambda: dual("siglip"), "vision_model", "siglip_vision_model", "pooled"),
        (lambda: dual("clip"), "text_model", "clip_text_model", "pooled"),
    ],
    ids=["t5", "clip, vision", "siglip, vision", "clip, text"],
)
def test_the_encoder_is_loaded_from_the_whole_model(make, part, kind, pooling, tmp_path):
    whole, inputs = make(), tiny_inputs(kind)
    whole.save_pretrained(tmp_path)
    model = model_class(kind).from_encoder(str(tmp_path), labels=3).eval()
    expected = getattr(whole, part)(**inputs).last_hidden_state
    torch.testing.assert_close(model.encoder(**inputs).last_hidden_state, expected)
    assert model.config.pooling == pooling
    assert model.num_parameters() < whole.num_parameters()
    model.save_pretrained(tmp_path / "saved")
    assert model_class(kind).from_pretrained(tmp_path / "saved")(**inputs).features.equal(model(**inputs).features)


# --- what cannot be loaded ---


def test_what_is_no_encoder_is_named(tmp_path):
    AutoConfig.for_model("bart", d_model=16, encoder_layers=1, decoder_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="encoder: .*encoder-decoder"):
        MLCLForSequenceClassification.from_encoder(str(tmp_path), labels=3)
    tiny_encoder("bert").save_pretrained(tmp_path)
    AutoConfig.for_model("distilbert", **ENCODERS["distilbert"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="encoder: .*DistilBertModel"):  # with the weights of another model
        MLCLForSequenceClassification.from_encoder(str(tmp_path), labels=3)


def test_a_timm_encoder_without_timm_is_named(tmp_path):
    if importlib.util.find_spec("timm"):
        pytest.skip("timm is installed")
    (tmp_path / "config.json").write_text(
        '{"model_type": "timm_wrapper", "architecture": "resnet18", "num_classes": 0}'
    )
    with pytest.raises(ValueError, match="encoder: expected .*timm") as caught:
        MLCLForImageClassification.from_encoder(str(tmp_path), labels=3)
    assert "\n" not in str(caught.value)


def test_weights_without_a_gradient_stay_frozen():
    """A user who froze layers keeps them frozen, and nothing else is frozen for it."""
    model = tiny_model("bert")
    model.encoder.embeddings.requires_grad_(False)
    model.freeze_unused_parameters()
    frozen = {name for name, parameter in model.encoder.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.encoder.named_parameters() if name.startswith("embeddings.")}


# --- batch normalisation ---


def test_frozen_batch_norm_makes_features_independent_of_the_batch():
    inputs = tiny_inputs("resnet")
    for frozen in (False, True):
        model = tiny_model("resnet", freeze_batch_norm=frozen).train()
        before = {name: buffer.clone() for name, buffer in model.named_buffers()}
        alone = model(pixel_values=inputs["pixel_values"][:2]).features
        together = model(**inputs).features[:2]
        assert torch.allclose(alone, together, atol=1e-5) == frozen
        assert all(buffer.equal(before[name]) for name, buffer in model.named_buffers()) == frozen
        model(**inputs, labels=LABELS).loss.backward()
        scales = [p for name, p in model.encoder.named_parameters() if "normalization.weight" in name]
        assert scales and all(scale.grad is not None for scale in scales)


@pytest.mark.parametrize("kind", TEXT)
def test_the_longest_text_is_read_and_a_longer_one_named(kind):
    model = tiny_model(kind)
    longest = getattr(model.encoder.config, "max_position_embeddings", 512)
    longest -= 2 if kind in ("roberta", "xlm-roberta", "mpnet") else 0  # which keep two positions for padding
    assert model(input_ids=torch.full((1, longest), 5)).logits.isfinite().all()
    longer = torch.full((1, longest + 1), 5)
    if kind in ("t5", "qwen2", "llama", "modernbert"):  # positions are computed
        assert model(input_ids=longer).logits.isfinite().all()
    else:
        with pytest.raises(ValueError, match=f"input_ids: .*{longest} tokens.*{longest + 1}"):
            model(input_ids=longer)


@pytest.mark.parametrize("kind", ["bart", "roformer", "openai-gpt"])
def test_a_text_that_is_too_long_is_named_by_other_architectures(kind):
    sizes = SIZES | {"d_model": 32, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 12}
    config = AutoConfig.for_model(kind, **sizes | {"vocab_size": 60, "max_position_embeddings": 12})
    model = MLCLForSequenceClassification.from_encoder(AutoModel.from_config(config), labels=3).eval()
    assert model(input_ids=torch.full((1, 12), 5)).logits.isfinite().all()
    with pytest.raises(ValueError, match="input_ids: .*12 tokens.*13"):
        model(input_ids=torch.full((1, 13), 5))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2"])
def test_a_text_of_any_length_may_bring_its_own_positions(kind):
    model, ids = tiny_model(kind), torch.full((2, 600), 5)
    positions = (torch.arange(600) % 30 + 2).expand(2, -1)
    cache = {"use_cache": False} if kind == "gpt2" else {}  # with one it would not see where a text starts again
    expected = model.encoder(input_ids=ids, position_ids=positions, **cache).last_hidden_state
    features = model(input_ids=ids, position_ids=positions).features
    torch.testing.assert_close(features, expected[:, -1 if kind == "gpt2" else 0])


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "mpnet"])
def test_padding_needs_no_positions_where_it_has_one_of_its_own(kind):
    model, inputs = tiny_model(kind), tiny_inputs(kind)
    padding = model.encoder.config.pad_token_id
    ids = nn.functional.pad(inputs["input_ids"], (0, 600), value=padding)
    mask = nn.functional.pad(inputs["attention_mask"], (0, 600))
    torch.testing.assert_close(model(input_ids=ids, attention_mask=mask).logits, model(**inputs).logits)
    with pytest.raises(ValueError, match="input_ids: .*599"):
        model(input_ids=torch.where(torch.arange(607) < 599, 5, ids))


def test_a_mask_of_pairs_of_tokens_says_not_which_tokens_to_pool():
    inputs = tiny_inputs("bert")
    pairs = {**inputs, "attention_mask": inputs["attention_mask"][:, None, None].bool().expand(-1, 1, 7, 7)}
    model = tiny_model("bert", pooling="cls")
    torch.testing.assert_close(model(**pairs).logits, model(**inputs).logits)
    for pooling in ("mean", "max", "last"):
        with pytest.raises(ValueError, match=rf"attention_mask: .*'{pooling}'.*\[4, 1, 7, 7\]"):
            tiny_model("bert", pooling=pooling)(**pairs)


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_tensors_without_values_pass(kind):
    model, inputs = tiny_model(kind), tiny_inputs(kind)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        assert model(**{name: fake.from_tensor(value) for name, value in inputs.items()}).logits.shape == (4, 3)


@pytest.mark.parametrize("kind", ["squeezebert", "layoutlm"])
def test_an_encoder_that_always_calls_its_pooler(kind, tmp_path):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **ENCODERS["bert"], embedding_size=ENCODERS["bert"]["hidden_size"])
    model = MLCLForSequenceClassification.from_encoder(AutoModel.from_config(config), labels=3, pooling="cls").eval()
    assert not [name for name in model.state_dict() if "pooler" in name]
    model.save_pretrained(tmp_path)
    inputs = tiny_inputs("bert")
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path)
    assert loaded(**inputs).logits.equal(model(**inputs).logits)


@pytest.mark.parametrize("kind", sorted(set(ENCODERS) - set(TEXT)))
def test_images_that_do_not_fit_are_named(kind):
    with pytest.raises(ValueError, match=r"pixel_values: .*3 channels"):
        tiny_model(kind)(pixel_values=tiny_inputs(kind)["pixel_values"][:, :1])
    size = 2 * ENCODERS[kind].get("image_size", 32)
    if kind in ("dinov2", "swin", "beit", "convnext", "resnet", "dinov3_vit"):  # which take any size
        assert tiny_model(kind)(pixel_values=torch.randn(2, 3, size, size)).logits.isfinite().all()
    if kind in ("siglip_vision_model", "clip_vision_model"):
        with pytest.raises(ValueError, match="pixel_values: .*16 x 16 pixels, got 32 x 24"):
            tiny_model(kind)(pixel_values=torch.randn(2, 3, 32, 24))


def padded_by(before, behind):
    """Two texts of 5 and 3 tokens, the second with padding before and behind it, and what is to be left of both."""
    ids = torch.arange(3, 13).reshape(2, 5) % 50 + 5
    mask = torch.zeros(2, 5 + before + behind, dtype=torch.long)
    padded = torch.zeros_like(mask)
    padded[0, :5], mask[0, :5] = ids[0], 1
    padded[1, before : before + 3], mask[1, before : before + 3] = ids[1, :3], 1
    return {"input_ids": padded, "attention_mask": mask}, ids[1:, :3]


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind in TEXT])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "last"])
def test_scores_depend_neither_on_the_side_of_the_padding_nor_on_its_length(kind, pooling):
    encoder = tiny_encoder(kind)
    padding = getattr(encoder.config, "pad_token_id", None) or 0
    model = MLCLForSequenceClassification.from_encoder(encoder, labels=3, projection_dim=8, pooling=pooling).eval()
    with torch.no_grad():
        for before, behind in ((0, 2), (2, 0), (1, 3), (4, 4)):
            inputs, alone = padded_by(before, behind)
            inputs["input_ids"][inputs["attention_mask"] == 0] = padding
            expected = model(input_ids=alone, attention_mask=torch.ones_like(alone)).logits[0]
            torch.testing.assert_close(model(**inputs).logits[1], expected, atol=2e-5, rtol=1e-4)


def test_hidden_states_and_attentions_stay_where_their_tokens_are():
    model = tiny_model("bert")
    model.set_attn_implementation("eager")
    behind, _ = padded_by(0, 2)
    before, _ = padded_by(2, 0)
    more = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        right, left = model(**behind, **more), model(**before, **more)
    for first, second in zip(right.hidden_states, left.hidden_states, strict=True):
        torch.testing.assert_close(first[1, :3], second[1, 2:5])
    for first, second in zip(right.attentions, left.attentions, strict=True):
        torch.testing.assert_close(first[1, :, :3, :3], second[1, :, 2:5, 2:5])


def test_positions_given_with_left_padding_belong_to_their_tokens():
    model, (inputs, alone) = tiny_model("bert"), padded_by(2, 0)
    positions = torch.tensor([[7, 6, 5, 4, 3, 2, 1], [0, 0, 9, 8, 7, 0, 0]])
    with torch.no_grad():
        expected = model(input_ids=alone, position_ids=positions[1:, 2:5]).logits[0]
        torch.testing.assert_close(model(**inputs, position_ids=positions).logits[1], expected)


def test_an_encoder_whose_features_depend_on_the_padding_is_named(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("hf_mlcl"), "propagate", True)
    fnet = AutoModel.from_config(AutoConfig.for_model("fnet", **{**SIZES, "vocab_size": 60}))
    MLCLForSequenceClassification.from_encoder(fnet, labels=2)
    MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=2)
    messages = [record.getMessage() for record in caplog.records if "padding" in record.getMessage()]
    assert len(messages) == 1 and "FNetModel: the features of a text change with the padding" in messages[0]


WRAPPERS = {
    "torch.compile": lambda encoder: torch.compile(encoder, backend="eager"),
    "DataParallel": torch.nn.DataParallel,
    "both": lambda encoder: torch.compile(torch.nn.DataParallel(encoder), backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_a_wrapped_encoder_is_taken_out_or_used_but_never_saved_under_other_names(wrap, tmp_path):
    inputs, model = tiny_inputs("bert"), tiny_model("bert")
    expected = model(**inputs).logits
    given = MLCLForSequenceClassification.from_encoder(wrap(model.encoder), labels=3, projection_dim=8)
    assert given.encoder is model.encoder
    model.encoder = wrap(model.encoder)
    torch.testing.assert_close(model(**inputs).logits, expected)
    with pytest.raises(ValueError, match="encoder: .* in a"):
        model.save_pretrained(tmp_path)
