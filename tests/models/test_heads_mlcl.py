"""Prototypes from label names, and labels added to a trained model."""

import pytest
import torch
from tiny import tiny_encoder, tiny_inputs
from transformers import AutoTokenizer

from hf_mlcl import MLCLConfig, MLCLForSequenceClassification, build_loss
from hf_mlcl.models.heads_mlcl import choose_labels, spread_prototypes

NAMES = ["cat", "dog, big", "Vögel"]


def tiny_model(**fields):
    return MLCLForSequenceClassification.from_encoder(tiny_encoder("bert"), labels=NAMES, **fields).eval()


# --- prototypes from label names ---


def test_spread_prototypes_are_centred_and_as_long_as_xavier_ones():
    embeddings = torch.randn(30, 64, dtype=torch.float64) + 5
    prototypes = spread_prototypes(embeddings)
    centred = torch.nn.functional.normalize(embeddings - embeddings.mean(0))
    torch.testing.assert_close(torch.nn.functional.normalize(prototypes), centred)
    expected = torch.nn.init.xavier_uniform_(torch.empty(30, 64)).norm(dim=1).mean().item()
    assert prototypes.norm(dim=1).mean().item() == pytest.approx(expected, rel=0.1)


def test_prototypes_do_not_depend_on_where_the_embeddings_lie():
    embeddings = torch.randn(5, 8, dtype=torch.float64)
    moved = spread_prototypes(3 * embeddings + torch.randn(8, dtype=torch.float64))
    torch.testing.assert_close(moved, spread_prototypes(embeddings))
    alone = spread_prototypes(embeddings[:1])  # one label keeps its embedding
    assert torch.nn.functional.cosine_similarity(alone, embeddings[:1]).item() == pytest.approx(1)
    assert spread_prototypes(torch.ones(3, 8)).eq(0).all()  # all the same: no direction


def test_prototypes_start_where_the_names_lie(minilm_folder):
    names = ["wheat and grain", "corn and grain", "crude oil", "natural gas and oil"]
    model = MLCLForSequenceClassification.from_encoder(
        str(minilm_folder), labels=names, prototype_init="label_names"
    ).eval()
    prototypes = torch.nn.functional.normalize(model.prototypes.weight.detach())
    similarity = prototypes @ prototypes.T
    assert similarity.fill_diagonal_(-1).argmax(1).tolist() == [1, 0, 3, 2]
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder)
    raw = model.encode(normalize=False, **tokenizer(names, padding=True, return_tensors="pt"))
    torch.testing.assert_close(model.prototypes.weight.detach(), spread_prototypes(raw), rtol=1e-4, atol=1e-5)
    assert model.config.prototype_init == "label_names"


def test_descriptions_take_the_place_of_names(minilm_folder):
    def prototypes(names, **options):
        torch.manual_seed(0)
        return MLCLForSequenceClassification.from_encoder(
            str(minilm_folder), labels=names, prototype_init="label_names", **options
        ).prototypes.weight

    described = prototypes(["a", "crude", "dlr"], label_descriptions={"dlr": "US dollar", "a": "wheat"})
    torch.testing.assert_close(described, prototypes(["wheat", "crude", "US dollar"]))
    with pytest.raises(ValueError, match="label_descriptions: .*'x'"):
        prototypes(["a", "b"], label_descriptions={"x": "y"})


def test_label_names_need_a_tokenizer():
    with pytest.raises(ValueError, match="tokenizer: "):
        tiny_model(prototype_init="label_names")


# --- adding labels ---


def test_added_labels_leave_the_old_ones_as_they_are(tmp_path):
    model = tiny_model()
    model.config.classifier_fitted = True
    model.config.thresholds, model.config.train_label_counts = [0.1, 0.2, 0.3], [5, 6, 7]
    inputs = tiny_inputs("bert")
    before = model(**inputs)
    decided = model.predict_labels(**inputs)
    model.add_labels(["new, one", "Öl"])
    after = model(**inputs)
    torch.testing.assert_close(after.logits[:, :3], before.logits)
    assert after.prototypes[:3].equal(before.prototypes)
    assert after.logits[:, 3:].sigmoid().tolist() == [[pytest.approx(0.01)] * 2] * 4
    assert [[label["label"] for label in row] for row in model.predict_labels(**inputs)] == [
        [label["label"] for label in row] for row in decided
    ]
    assert model.config.thresholds == [0.1, 0.2, 0.3, 0.5, 0.5] and model.config.train_label_counts == [5, 6, 7, 0, 0]
    assert model.config.label_names == [*NAMES, "new, one", "Öl"] and model.config.num_labels == 5
    model.save_pretrained(tmp_path)
    assert MLCLForSequenceClassification.from_pretrained(tmp_path)(**inputs).logits.equal(after.logits)


@pytest.mark.parametrize("objective", ["contrastive", "joint"])
def test_added_labels_are_trained(objective):
    model = tiny_model(objective=objective).train()
    model.add_labels("new")
    model.freeze_unused_parameters()
    labels = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 1, 1, 0]])
    model(**tiny_inputs("bert"), labels=labels).loss.backward()
    assert model.prototypes.weight.grad[3].abs().sum() > 0
    assert (model.classifier.weight.grad is not None) == (objective == "joint")
    build_loss("reg")(torch.randn(4, 256), labels, model.prototypes())


def test_new_prototypes_are_random_and_of_the_usual_size():
    model = tiny_model()
    model.add_labels([f"new {i}" for i in range(40)])
    new = model.prototypes.weight[3:]
    assert new.std() > 0 and new.abs().max() <= (6 / (43 + 256)) ** 0.5 and new.unique(dim=0).shape[0] == 40


def test_label_names_are_those_of_data_sets_wherever_they_enter():
    names = ["ship ", " O\u0308l", "Ship"]
    model = tiny_model()
    model.add_labels(names)
    assert model.config.label_names == [*NAMES, "ship", "\u00d6l", "Ship"]  # the case of letters is a part of a name
    config = MLCLConfig(id2label=dict(enumerate(names)))
    assert config.label_names == ["ship", "\u00d6l", "Ship"] and config.label2id["ship"] == 0


def test_one_name_twice_among_many_is_found_at_once():
    names = [f"label {number}" for number in range(100_000)]
    with pytest.raises(ValueError, match="got the duplicate 'label 7'"):
        MLCLConfig().label_names = [*names, "label 7 "]


# --- choosing labels ---


def test_chosen_labels_follow_thresholds_then_the_bounds():
    scores, thresholds = torch.tensor([[0.9, 0.2, 0.6], [0.1, 0.2, 0.05]]), torch.tensor([0.95, 0.1, 0.5])
    assert choose_labels(scores, thresholds, 0, 3) == [[2, 1], [1]]
    assert choose_labels(scores, thresholds, 2, 2) == [[2, 1], [1, 0]]
    assert choose_labels(scores, torch.tensor(0.99), 1, 3) == [[0], [1]]


@pytest.mark.parametrize("min_labels", [0, 1, 4, 12])
@pytest.mark.parametrize("top_k", [12, 13])
def test_chosen_labels_are_those_of_a_whole_stable_sort(min_labels, top_k):
    scores = (torch.rand(30, 12, generator=torch.Generator().manual_seed(0)) * 5).round() / 5
    thresholds = torch.rand(12, generator=torch.Generator().manual_seed(1))
    expected = []
    for row in scores:
        order = sorted(range(12), key=lambda label: (-row[label], label))
        passed = [label for label in order if row[label] >= thresholds[label]]
        more = [label for label in order if label not in passed][: max(0, min_labels - len(passed))]
        expected.append([label for label in order if label in passed + more][:top_k])
    assert choose_labels(scores, thresholds, min_labels, top_k) == expected
