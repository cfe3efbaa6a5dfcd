"""What people do with any `PreTrainedModel`: copy, pickle, cast, compile, shard, resume from a configuration."""

import copy
import pickle

import pytest
import torch
from toy import toy_model

LABELS = torch.tensor([[1, 0, 0, 1, 0], [1, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def model():
    return toy_model(objective="joint", classifier_fitted=True).eval()


@pytest.fixture(scope="module")
def inputs(tokenizer):
    return tokenizer(["w10 w20 w11", "w12"], padding=True, return_tensors="pt")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_score_alike(copied, model, inputs):
    again = copied(model)
    assert again(**inputs).logits.equal(model(**inputs).logits)
    assert again.config.to_dict() == model.config.to_dict() and again.config is not model.config


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_train_and_predict(dtype, model, inputs):
    cast = copy.deepcopy(model).to(dtype)
    outputs = cast(**inputs, labels=LABELS)
    assert outputs.logits.dtype == dtype and outputs.loss.dtype in (torch.float32, torch.float64)
    outputs.loss.backward()
    assert all(p.grad.isfinite().all() for p in cast.parameters() if p.grad is not None)
    torch.testing.assert_close(outputs.logits.float(), model(**inputs).logits, rtol=0.05, atol=0.05)
    assert len(cast.predict_labels(**inputs)) == len(cast.encode(**inputs)) == 2


def test_compiled_model_scores_alike(model, inputs):
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits)


def test_outputs_come_as_a_tuple_on_request(model, inputs):
    outputs = model(**inputs, output_hidden_states=True)
    logits, *rest = model(**inputs, output_hidden_states=True, return_dict=False)
    assert logits.equal(outputs.logits) and len(rest) == len(outputs) - 1
    assert len(outputs.hidden_states) == 2
