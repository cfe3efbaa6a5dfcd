import copy
import json
import logging
import pickle

import numpy as np
import pytest
import torch
from tiny import CONFIGS, TEXT, tiny_encoder, tiny_inputs
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from hf_mlcl import MLCLConfig, MLCLForImageClassification, MLCLForSequenceClassification

NAMES = ["cat", "dog, big", "Vögel"]
kinds = pytest.mark.parametrize("kind", CONFIGS)


def model_class(kind):
    return MLCLForSequenceClassification if kind in TEXT else MLCLForImageClassification


def tiny_model(kind="bert", labels=NAMES, **fields):
    return model_class(kind).from_encoder(tiny_encoder(kind), labels=labels, **fields).eval()


@kinds
def test_forward_gives_all_parts(kind):
    model = tiny_model(kind, projection_dim=8)
    output = model(**tiny_inputs(kind))
    size = model.config.feature_dim
    shapes = {name: tuple(value.shape) for name, value in output.items()}
    assert shapes == {"logits": (4, 3), "embeddings": (4, 8), "features": (4, size), "prototypes": (3, 8)}
    assert model(**tiny_inputs(kind), return_dict=False)[0].equal(output.logits)


@kinds
def test_logits_can_be_left_out(kind):
    model, labels = tiny_model(kind), torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]])
    whole = model(**tiny_inputs(kind), labels=labels)
    output = model(**tiny_inputs(kind), labels=labels, output_logits=False)
    assert whole.keys() - output.keys() == {"logits"}
    assert all(value.equal(whole[name]) for name, value in output.items())
    model.config.objective = "joint"
    with pytest.raises(ValueError, match="output_logits: expected True with labels and the objective 'joint', got F"):
        model(**tiny_inputs(kind), labels=labels, output_logits=False)


@kinds
@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_every_parameter_of_an_objective_gets_a_gradient(kind, objective):
    model = tiny_model(kind, objective=objective).train()
    model.freeze_unused_parameters()
    labels = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]])
    model(**tiny_inputs(kind), labels=labels).loss.backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("encoder.") for name in with_gradient)
    assert ("classifier.weight" in with_gradient) == (objective != "contrastive")
    assert ("prototypes.weight" in with_gradient) == (objective != "classification")


def test_a_loss_without_prototypes_leaves_them_frozen():
    model = tiny_model(loss="base")
    model.freeze_unused_parameters()
    assert not model.prototypes.weight.requires_grad and model.projection.output.weight.requires_grad


def test_joint_loss_is_the_weighted_sum():
    labels = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]])
    model = tiny_model(objective="joint", classification_weight=0.7, classification_loss="bce")
    losses = model.objective_losses(model(**tiny_inputs("bert")), labels)
    expected = losses["contrastive_loss"] + 0.7 * losses["classification_loss"]
    torch.testing.assert_close(losses["loss"], expected)
    torch.testing.assert_close(model(**tiny_inputs("bert"), labels=labels).loss, expected)


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_save_and_load_is_bit_identical(kind, dtype, tmp_path):
    model = tiny_model(kind, dtype=dtype).to(dtype)
    model.config.dtype = dtype
    model.config.thresholds, model.config.classifier_fitted = [0.1, 0.5, 0.9], True
    model.save_pretrained(tmp_path)
    inputs = {n: v.to(dtype) if v.is_floating_point() else v for n, v in tiny_inputs(kind).items()}
    auto = AutoModelForSequenceClassification if kind in TEXT else AutoModelForImageClassification
    for loader in (model_class(kind), auto):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is type(model) and not loaded.training
        assert loaded.dtype == dtype and loaded.config.thresholds == [0.1, 0.5, 0.9]
        assert loaded.config.label_names == NAMES and loaded.config.pooling == model.config.pooling
        for name, tensor in model.state_dict().items():
            assert loaded.state_dict()[name].equal(tensor), name
        assert loaded(**inputs).logits.equal(model(**inputs).logits)


@kinds
def test_padding_changes_nothing(kind):
    if kind not in TEXT:
        pytest.skip("images are not padded")
    for pooling in ("cls", "mean", "max", "last"):
        model = tiny_model(kind, pooling=pooling)
        inputs = tiny_inputs(kind)
        short = {name: value[2:, :5] for name, value in inputs.items()}
        torch.testing.assert_close(model(**inputs).features[2:], model(**short).features, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_of_channel_maps(pooling):
    model = tiny_model("resnet", pooling=pooling)
    inputs = tiny_inputs("resnet")
    maps = model.encoder(**inputs).last_hidden_state
    expected = maps.mean((2, 3)) if pooling == "mean" else maps.amax((2, 3))
    torch.testing.assert_close(model(**inputs).features, expected)


def test_default_pooling_and_unused_poolers():
    found = {kind: tiny_model(kind).config.pooling for kind in CONFIGS}
    assert found == {"bert": "cls", "roberta": "cls", "distilbert": "cls"} | {
        "vit": "cls",
        "resnet": "pooled",
        "mobilenet_v2": "pooled",
    }
    assert not any("pooler" in name for kind in ("bert", "vit") for name in tiny_model(kind).state_dict())
    assert "encoder.pooler.dense.weight" in tiny_model("bert", pooling="pooled").state_dict()


def test_a_missing_head_is_initialised_and_not_garbage(tmp_path):
    from safetensors.torch import load_file, save_file

    model = tiny_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: value for name, value in weights.items() if name.startswith("encoder.")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path)
    bound = (6 / (model.config.feature_dim + 3)) ** 0.5  # of Xavier's uniform distribution
    assert 0 < loaded.classifier.weight.abs().max() <= bound and loaded.classifier.bias.eq(0).all()
    assert loaded.prototypes.weight.std() > 0 and loaded.projection.hidden.bias.eq(0).all()


def test_heads_start_as_xavier_and_depend_on_the_seed():
    weights = []
    for seed in (0, 0, 1):
        encoder = tiny_encoder("bert")
        torch.manual_seed(seed)
        weights.append(MLCLForSequenceClassification.from_encoder(encoder, labels=40).prototypes.weight)
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])
    assert weights[0].abs().max() <= (6 / (40 + 256)) ** 0.5


def test_wrong_task_raises(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="MLCLForImageClassification: .*'text'"):
        AutoModelForImageClassification.from_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="expected a vision encoder, got 'bert'"):
        MLCLForImageClassification.from_encoder(tiny_encoder("bert"), labels=2)


def test_changed_number_of_labels_drops_thresholds_with_a_warning(tmp_path, caplog):
    model = tiny_model()
    model.config.thresholds, model.config.classifier_fitted = [0.1, 0.5, 0.9], True
    model.save_pretrained(tmp_path)
    logging.getLogger("transformers").propagate = True
    with caplog.at_level("WARNING"):
        loaded = MLCLForSequenceClassification.from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert loaded.config.thresholds is None and not loaded.config.classifier_fitted
    assert loaded.encoder.embeddings.word_embeddings.weight.equal(model.encoder.embeddings.word_embeddings.weight)


def fitted_model():
    """A model whose scores are 0.9, 0.6, 0.2 whatever the input."""
    model = tiny_model()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.logit(torch.tensor([0.2, 0.9, 0.6])))
    model.config.classifier_fitted = True
    return model


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["dog, big", "Vögel"]),
        ({"threshold": 0.7}, ["dog, big"]),
        ({"threshold": 0.95}, []),
        ({"threshold": 0.95, "min_labels": 2}, ["dog, big", "Vögel"]),
        ({"threshold": 0.1, "top_k": 2}, ["dog, big", "Vögel"]),
        ({"threshold": [0.1, 0.95, 0.95]}, ["cat"]),
        ({"threshold": [0.1, 0.95, 0.95], "min_labels": 2}, ["dog, big", "cat"]),
        ({"threshold": [0.1, 0.95, 0.95], "min_labels": 3, "top_k": 3}, ["dog, big", "Vögel", "cat"]),
    ],
)
def test_predict_labels(arguments, expected):
    rows = fitted_model().predict_labels(**tiny_inputs("bert"), **arguments)
    assert [[label["label"] for label in row] for row in rows] == [expected] * 4
    scores = {"cat": 0.2, "dog, big": 0.9, "Vögel": 0.6}
    assert all(label["score"] == pytest.approx(scores[label["label"]]) for row in rows for label in row)


def test_predict_labels_uses_the_thresholds_of_the_model():
    model = fitted_model()
    model.config.thresholds = [0.1, 0.95, 0.5]
    assert [label["label"] for label in model.predict_labels(**tiny_inputs("bert"))[0]] == ["Vögel", "cat"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, "top_k must be .*got 0"),
        ({"min_labels": 4}, "min_labels must be .*got 4"),
        ({"min_labels": 2, "top_k": 1}, "top_k must be .*got 1"),
        ({"threshold": [0.5, 0.5]}, "threshold: expected 1 or 3 numbers, got 2"),
    ],
)
def test_predict_labels_names_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        fitted_model().predict_labels(**tiny_inputs("bert"), **arguments)


def test_an_unfitted_model_does_not_predict():
    with pytest.raises(ValueError, match="fit_classifier"):
        tiny_model().predict_labels(**tiny_inputs("bert"))


def test_prediction_ignores_dropout_in_train_mode_and_keeps_the_mode():
    model = fitted_model().train()
    first, second = (model.encode(**tiny_inputs("bert")) for _ in range(2))
    assert first.equal(second) and model.training
    torch.testing.assert_close(first.norm(dim=1), torch.ones(4))
    assert model.encode(**tiny_inputs("bert"), normalize=False).shape == (4, 256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "audio"}, "task: expected one of text, vision, got 'audio'"),
        ({"objective": "both"}, "objective: expected one of"),
        ({"pooling": "average"}, "pooling: expected one of"),
        ({"projection_dim": 0}, "projection_dim: expected a positive integer, got 0"),
        ({"classification_weight": -1}, "classification_weight: expected a finite number"),
    ],
)
def test_config_names_mistakes(fields, message):
    with pytest.raises(ValueError, match=message):
        MLCLConfig(**fields)


def test_a_configuration_keeps_what_a_newer_version_has_written(tmp_path):
    tiny_model(labels=["a", "b"]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"of_next_year": {"x": [1]}}))
    model = MLCLForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.of_next_year == {"x": [1]} and model.config.label_names == ["a", "b"]
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["of_next_year"] == {"x": [1]}


@pytest.mark.parametrize("order", [sorted, reversed, list])
def test_labels_follow_their_numbers_in_any_order_of_the_mapping(order):
    names = {str(number): f"label{number}" for number in range(12)}
    mapping = {key: names[key] for key in order(list(names))}
    for config in (MLCLConfig(id2label=mapping), MLCLConfig(label2id={n: int(k) for k, n in mapping.items()})):
        assert config.label_names == list(names.values()) == list(config.id2label.values())
        assert config.label2id == {name: int(key) for key, name in names.items()}
    config = MLCLConfig(num_labels=12)
    config.id2label = mapping  # as a user of transformers renames labels
    assert config.label_names == list(names.values())
    assert (
        MLCLConfig.from_dict(json.loads(json.dumps(config.to_dict(), sort_keys=True))).label_names
        == config.label_names
    )


def test_names_changed_by_hand_in_id2label_hold():
    config = MLCLConfig(id2label={0: "ship", 1: "oil"}, label2id={"LABEL_0": 0, "LABEL_1": 1})
    assert config.label2id == {"ship": 0, "oil": 1}


def test_duplicate_labels_are_named():
    with pytest.raises(ValueError, match="labels: expected distinct label names, got the duplicate 'a'"):
        tiny_model(labels=["a", "b", "a"])
    with pytest.raises(ValueError, match="got none"):
        tiny_model(labels=[])


def test_labels_are_taken_from_the_keys_of_a_mapping():
    assert tiny_model(labels={"b": 3, "a": 1}.keys()).config.label_names == ["b", "a"]


@pytest.mark.parametrize("form", [list, torch.tensor, np.array], ids=["list", "tensor", "array"])
def test_loss_parameters_of_any_form_are_saved(form, tmp_path):
    parameters = {"pos_weight": form([1.0, 2.0, 4.0])}
    tiny_model(classification_loss="bce", classification_loss_parameters=parameters).save_pretrained(tmp_path)
    saved = MLCLConfig.from_pretrained(tmp_path).classification_loss_parameters
    assert saved == {"pos_weight": [1.0, 2.0, 4.0]}


def test_unloadable_encoders_are_named(tmp_path):
    with pytest.raises(ValueError, match="encoder: expected the folder or Hub id of a model, got '.*nothing'"):
        MLCLForSequenceClassification.from_encoder(str(tmp_path / "nothing"), labels=2)
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="this is a multi-label model; use from_pretrained"):
        MLCLForSequenceClassification.from_encoder(str(tmp_path), labels=2)


def test_attention_and_checkpointing_reach_the_encoder(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    inputs = tiny_inputs("bert")
    for implementation in ("eager", "sdpa"):
        loaded = MLCLForSequenceClassification.from_pretrained(tmp_path, attn_implementation=implementation)
        assert loaded.encoder.config._attn_implementation == implementation
        torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)
    model.train().gradient_checkpointing_enable()
    model(**inputs, labels=torch.eye(4, 3)).loss.backward()
    assert model.encoder.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="does not support (activation|gradient) checkpointing"):
        tiny_model("mobilenet_v2").gradient_checkpointing_enable()


def test_text_pipeline_gives_sigmoid_scores(minilm_folder, tmp_path):
    model = MLCLForSequenceClassification.from_encoder(str(minilm_folder), labels=NAMES).eval()
    assert model.config.pooling == "mean"  # as its sentence-transformers files say
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scores = pipeline("text-classification", model=str(tmp_path), top_k=None)(["hello world", "a long text " * 9])
    logits = model(**tokenizer(["hello world"], return_tensors="pt")).logits[0]
    expected = dict(zip(NAMES, logits.sigmoid().tolist(), strict=True))
    assert {row["label"]: pytest.approx(row["score"], abs=1e-5) for row in scores[0]} == expected


def test_image_pipeline_gives_sigmoid_scores(shared_folder, tmp_path):
    from PIL import Image

    folder = shared_folder / "weights" / "mobilenet_v2_1.0_224"
    model = MLCLForImageClassification.from_encoder(str(folder), labels=NAMES).eval()
    assert model.dtype == torch.float32  # although the checkpoint is in float16
    processor = AutoImageProcessor.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    image = Image.linear_gradient("L").convert("RGB")
    scores = pipeline("image-classification", model=str(tmp_path), top_k=3)(image)
    expected = model(**processor(image, return_tensors="pt")).logits[0].sigmoid().tolist()
    found = {row["label"]: row["score"] for row in scores}
    assert [found[name] for name in NAMES] == pytest.approx(expected, abs=1e-5)


def test_resized_token_embeddings_are_saved_and_loaded(tmp_path):
    model = tiny_model()
    model.resize_token_embeddings(70)
    model.save_pretrained(tmp_path)
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.encoder_config.vocab_size == 70
    assert loaded.get_input_embeddings().weight.equal(model.get_input_embeddings().weight)


def test_copies_and_placed_models_give_the_same_scores(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    placed = MLCLForSequenceClassification.from_pretrained(tmp_path, device_map="auto")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), placed):
        inputs = {name: value.to(other.device) for name, value in tiny_inputs("bert").items()}
        torch.testing.assert_close(other(**inputs).logits.to(model.device), model(**tiny_inputs("bert")).logits)


@pytest.mark.parametrize("objective", ["contrastive", "joint", "classification"])
def test_the_loss_comes_first_and_training_a_classifier_is_noted(objective):
    model, labels = tiny_model(objective=objective), torch.eye(4, 3)
    output = model(**tiny_inputs("bert"), labels=labels)
    assert output[0] is output.loss and next(iter(output)) == "loss"
    assert model(**tiny_inputs("bert"), labels=labels, return_dict=False)[0].ndim == 0
    assert not model.config.classifier_fitted  # evaluating does not train
    model.train()(**tiny_inputs("bert"), labels=labels)
    assert model.config.classifier_fitted == (objective != "contrastive")


def test_no_examples_have_no_labels():
    model = tiny_model()
    model.config.classifier_fitted = True
    for none in (torch.empty(0), torch.empty(0, 4, dtype=torch.long)):
        assert model.predict_labels(input_ids=none) == []
    assert model.encode(input_ids=torch.empty(0, 4, dtype=torch.long)).shape == (0, model.config.projection_dim)
