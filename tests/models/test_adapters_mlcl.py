"""Adapters: what is trained, what is saved, what comes back, and that no head is ever lost."""

import copy
import json
import re
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import TEXT, tiny_encoder, tiny_inputs
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

from hf_mlcl import MLCLForImageClassification, MLCLForSequenceClassification
from hf_mlcl.models import adapters_mlcl

NAMES = ["cat", "dog, big", "Vögel"]
KINDS = ["bert", "distilbert", "qwen2", "vit", "resnet", "convnext"]
LAYERS = {"resnet": ["convolution"], "distilbert": ["q_lin", "v_lin"]}  # of the others, all linear layers
TUNERS = {
    "lora": lambda targets: peft.LoraConfig(r=2, target_modules=targets),
    "dora": lambda targets: peft.LoraConfig(r=2, target_modules=targets, use_dora=True),
    "loha": lambda targets: peft.LoHaConfig(r=2, target_modules=targets),
    "lokr": lambda targets: peft.LoKrConfig(r=2, target_modules=targets),
    "oft": lambda targets: peft.OFTConfig(oft_block_size=0, r=2, target_modules=targets),
    "ia3": lambda targets: peft.IA3Config(target_modules=targets, feedforward_modules=[]),
    "norms": lambda _: peft.LNTuningConfig(target_modules=["LayerNorm"]),
}


def model_class(kind):
    return MLCLForSequenceClassification if kind in TEXT else MLCLForImageClassification


@pytest.fixture
def stored(tmp_path):
    """A model on an encoder that is stored in a folder."""

    def make(kind="bert", **fields):
        folder = tmp_path / f"encoder-{kind}"
        if not folder.exists():
            tiny_encoder(kind).save_pretrained(folder)
        return model_class(kind).from_encoder(str(folder), labels=NAMES, **fields).eval()

    return make


def moved(model):
    """The model with all that is trained moved from where it started, and a fitted classifier."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.config.thresholds, model.config.classifier_fitted = [0.2, 0.4, 0.6], True
    return model


def outputs(model, kind="bert"):
    with torch.inference_mode():
        return dict(model(**tiny_inputs(kind)))


def assert_equal(left, right, tolerance=0.0):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=tolerance)


def adapted(stored, kind="bert", config=None):
    model = stored(kind)
    model.add_adapter(config or peft.LoraConfig(r=2, target_modules=LAYERS.get(kind, "all-linear")))
    return moved(model)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_loaded_and_merged_agree(stored, kind, tmp_path):
    model = adapted(stored, kind)
    expected = outputs(model, kind)
    model.save_pretrained(tmp_path / "adapter")
    auto = AutoModelForSequenceClassification if kind in TEXT else AutoModelForImageClassification
    for cls in (model_class(kind), auto):
        loaded = cls.from_pretrained(tmp_path / "adapter")
        assert type(loaded) is model_class(kind) and not loaded.training
        assert_equal(outputs(loaded, kind), expected)
        assert loaded.config.thresholds == [0.2, 0.4, 0.6] and loaded.config.label_names == NAMES
    merged = loaded.merge_adapter()
    assert not merged.has_adapter and not any("lora" in name for name in merged.state_dict())
    assert_equal(outputs(merged, kind), expected, 1e-5)
    merged.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    assert_equal(outputs(model_class(kind).from_pretrained(tmp_path / "merged"), kind), outputs(merged, kind))


@pytest.mark.parametrize("tuner", TUNERS)
def test_other_adapters(stored, tuner, tmp_path):
    model = adapted(stored, config=TUNERS[tuner](["query", "value"]))
    expected = outputs(model)
    model.save_pretrained(tmp_path / "adapter")
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert_equal(outputs(loaded), expected)
    assert_equal(outputs(loaded.merge_adapter()), expected, 1e-5)


def test_the_folder_holds_the_adapter_and_no_encoder(stored, tmp_path):
    model = adapted(stored)
    model.save_pretrained(tmp_path / "adapter")
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json"} <= names
    assert not any(name.startswith(("model.", "model-", "pytorch_model")) for name in names)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert all(".encoder." not in name or "lora_" in name for name in saved)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "encoder-bert"
    )


HEADS = {
    "contrastive": {"projection", "prototypes"},
    "joint": {"projection", "prototypes", "classifier"},
    "classification": {"classifier"},
}


@pytest.mark.parametrize("kind", ["bert", "vit"])
@pytest.mark.parametrize("objective", HEADS)
def test_adapter_and_heads_of_the_objective_are_trained_and_nothing_else(stored, kind, objective):
    model = adapted(stored, kind)
    model.config.objective = objective
    model.freeze_unused_parameters()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    # ViT's patch projection ends in the name of a head; it belongs to the frozen encoder.
    assert {name for name in trained if name.startswith("encoder.")} == {name for name in trained if "lora_" in name}
    heads = {name for name in trained if "lora_" not in name}
    assert {name.split(".")[0] for name in heads} == HEADS[objective]
    assert all("modules_to_save.default" in name for name in heads)
    model.train()(**tiny_inputs(kind), labels=torch.eye(4, 3)).loss.backward()
    assert trained == {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("head", ["projection.hidden", "prototypes", "classifier"])
def test_no_head_is_lost_silently(stored, head, tmp_path):
    adapted(stored).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if head not in name}, file)
    with pytest.raises(ValueError, match=head):
        MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter")


def test_an_adapter_that_never_had_the_heads_is_refused(stored, tmp_path):
    peft.get_peft_model(stored(), peft.LoraConfig(target_modules=["query"])).save_pretrained(tmp_path / "adapter")
    stored().config.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="with its heads.*projection"):
        MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter")


def test_the_encoder_may_have_moved(stored, tmp_path):
    model = adapted(stored)
    model.save_pretrained(tmp_path / "adapter")
    shutil.move(tmp_path / "encoder-bert", tmp_path / "elsewhere")
    with pytest.raises(
        ValueError, match="encoder: expected the folder or Hub id of a model, got .*encoder-bert"
    ) as info:
        MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert "\n" not in str(info.value)
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter", encoder=str(tmp_path / "elsewhere"))
    assert_equal(outputs(loaded), outputs(model))


def test_releases_that_do_not_fit_are_named_before_anything_is_trained(stored, monkeypatch):
    model = stored()
    monkeypatch.setattr(adapters_mlcl, "MIN_PEFT_VERSION", "99.0")
    pattern = rf"^adapters need peft 99.0 or newer with transformers \S+, got {re.escape(peft.__version__)}: pip"
    with pytest.raises(ImportError, match=pattern):
        model.add_adapter(peft.LoraConfig(r=2))
    assert not model.has_adapter


def test_an_adapter_on_a_whole_model(stored, tmp_path):
    """Its encoder is the model's; stock peft, too, can load it then, because the base brings the heads' shapes."""
    moved(stored()).save_pretrained(tmp_path / "whole")
    model = MLCLForSequenceClassification.from_pretrained(tmp_path / "whole")
    model.add_adapter(peft.LoraConfig(r=2, task_type="SEQ_CLS"))
    expected = outputs(moved(model))
    model.save_pretrained(tmp_path / "adapter")
    assert_equal(outputs(MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter")), expected)
    theirs = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter").eval()
    assert_equal(outputs(theirs), expected)
    assert_equal(outputs(theirs.merge_and_unload()), expected, 1e-5)


def test_stock_peft_loads_onto_a_model_on_the_encoder(stored, tmp_path):
    model = adapted(stored)
    model.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(stored(), tmp_path / "adapter").eval()
    assert_equal(outputs(theirs), outputs(model))


def test_a_loaded_adapter_is_saved_again_and_predicts(stored, tmp_path):
    model = adapted(stored)
    expected = model.predict_labels(**tiny_inputs("bert"), min_labels=1)
    assert copy.deepcopy(model).predict_labels(**tiny_inputs("bert"), min_labels=1) == expected
    for name in ("first", "second"):
        model.save_pretrained(tmp_path / name)
        model = MLCLForSequenceClassification.from_pretrained(tmp_path / name)
    assert any(parameter.requires_grad for parameter in model.parameters())
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "second")]
    assert_equal(*files)
    assert model.predict_labels(**tiny_inputs("bert"), min_labels=1) == expected


def test_batch_statistics_stay(stored):
    model = adapted(stored, "resnet")
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()(**tiny_inputs("resnet"))
    assert model.config.freeze_batch_norm
    assert all(value.equal(before[name]) for name, value in model.named_buffers())


def test_what_cannot_be_is_one_line(stored):
    with pytest.raises(ValueError, match="^adapter_config .*dict"):
        stored().add_adapter({"r": 2})
    with pytest.raises(ValueError, match="^adapter_config: .*PromptTuningConfig"):
        stored().add_adapter(peft.PromptTuningConfig(num_virtual_tokens=2))
    with pytest.raises(ValueError, match="^adapter_config .*No modules were targeted"):
        stored().add_adapter(peft.LoraConfig(target_modules=["wrong_layer"]))
    with pytest.raises(ValueError, match="^adapter_config: .*folder or Hub id"):
        MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=2).add_adapter(peft.LoraConfig())
    with pytest.raises(ValueError, match="^merge_adapter: "):
        stored().merge_adapter()
    model = adapted(stored)
    with pytest.raises(ValueError, match="^adapter_config: .*merge_adapter"):
        model.add_adapter(peft.LoraConfig())
    with pytest.raises(ValueError, match="^add_labels "):
        model.add_labels(["more"])
    model.merge_adapter().add_labels(["more"])
    with pytest.raises(ValueError, match="^adapter_config: .*folder or Hub id"):
        model.add_adapter(peft.LoraConfig())  # the merged weights are stored nowhere


def test_the_vocabulary_must_be_the_encoders(stored, tmp_path):
    model = adapted(stored)
    model.save_pretrained(tmp_path / "adapter")
    other = stored()
    other.resize_token_embeddings(70)
    other.encoder.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="encoder: .*60 tokens.*70"):
        MLCLForSequenceClassification.from_pretrained(tmp_path / "adapter", encoder=str(tmp_path / "other"))


def test_an_adapter_of_the_encoder_itself_is_refused_before_its_weights_can_get_lost(tmp_path):
    config = peft.LoraConfig(r=2, target_modules=["query"])
    for put in (
        lambda encoder: encoder.add_adapter(config),
        lambda encoder: peft.get_peft_model(encoder, config),
        lambda encoder: peft.inject_adapter_in_model(config, encoder),
    ):
        encoder = tiny_encoder("bert")
        adapted = put(encoder) or encoder
        with pytest.raises(ValueError, match="encoder: .*model.add_adapter"):
            MLCLForSequenceClassification.from_encoder(adapted, labels=2)
        model = MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=2)
        model.encoder = put(model.encoder) or model.encoder
        with pytest.raises(ValueError, match="encoder: .*adapter"):
            model.save_pretrained(tmp_path)
