"""`MultiLabelClassifier` behaves as estimators of scikit-learn do, with arrays and with names of labels."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import estimator_checks
from tiny import save_image_encoder, save_text_encoder

from hf_mlcl import MLCLForSequenceClassification, MultiLabelClassifier
from hf_mlcl.data import digit_canvases, encode_labels, generated_corpus
from hf_mlcl.training.estimator import _rows_and_names

CORPUS = generated_corpus(120, 1, 40, num_labels=6, num_topics=2, imbalance=3)
(TEXTS, ROWS), (TEST, TEST_ROWS) = (
    (list(CORPUS.splits[split]["text"]), np.array(CORPUS.splits[split]["labels"]).astype(int))
    for split in ("train", "test")
)
NAMES = [[CORPUS.label_names[label] for label in np.flatnonzero(row)] for row in ROWS]
QUICK = {"num_train_epochs": 3, "learning_rate": 3e-3, "use_cpu": True, "disable_tqdm": True}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    save_text_encoder(folder, TEXTS)
    return str(folder)


def classifier(encoder, **options):
    return MultiLabelClassifier(encoder, training_arguments=QUICK, validation_fraction=0.3, **options)


@pytest.fixture(scope="module")
def fitted(encoder):
    return classifier(encoder).fit(TEXTS, ROWS)


def test_arrays_come_back_as_arrays(fitted):
    predicted, scores = fitted.predict(TEST), fitted.predict_proba(TEST)
    assert predicted.shape == scores.shape == TEST_ROWS.shape and set(np.unique(predicted)) <= {0, 1}
    assert ((scores >= 0) & (scores <= 1)).all() and fitted.classes_.tolist() == list(range(6))
    limits = np.array(fitted.model_.config.thresholds)
    assert np.array_equal(predicted, scores >= limits)
    assert f1_score(TEST_ROWS, predicted, average="micro") > f1_score(
        TEST_ROWS, np.ones_like(TEST_ROWS), average="micro"
    )
    assert fitted.score(TEST, TEST_ROWS) == (predicted == TEST_ROWS).all(axis=1).mean()


def test_names_come_back_as_names(encoder, fitted):
    named = classifier(encoder).fit(pd.Series(TEXTS), NAMES)
    assert named.classes_.tolist() == sorted(CORPUS.label_names)
    found = named.predict(TEST[:5])
    assert all(isinstance(labels, list) and set(labels) <= set(named.classes_) for labels in found)
    truth = [[CORPUS.label_names[label] for label in np.flatnonzero(row)] for row in TEST_ROWS]
    right = [set(labels) == set(true) for labels, true in zip(named.predict(TEST), truth, strict=True)]
    assert named.score(TEST, truth) == np.mean(right)


IDS = [np.flatnonzero(row).tolist() for row in ROWS]
FORMS = {
    "ids": IDS,
    "names with blanks around them": [[f" {name} " for name in names] for names in NAMES],
    "rows": ROWS.tolist(),
    "rows of objects": ROWS.astype(object),
    "a series of rows": pd.Series(list(ROWS.astype(bool))),
    "numbers and truth values": pd.DataFrame(ROWS).astype({0: bool}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_labels_is_scored_as_it_was_learnt(form, encoder):
    quick = classifier(encoder).set_params(training_arguments=QUICK | {"max_steps": 1})
    found = quick.fit(TEXTS, FORMS[form])
    rows = ROWS[:, np.argsort(CORPUS.label_names)] if form.startswith("names") else ROWS
    right = (found.predict_proba(TEXTS) >= np.array(found.model_.config.thresholds)) == rows
    assert 0 < found.score(TEXTS, FORMS[form]) == right.all(axis=1).mean()
    as_names = form.startswith(("ids", "names"))
    assert isinstance(found.predict(TEXTS), list) == as_names
    with pytest.raises(ValueError, match="the form that it had in fit"):
        found.score(TEXTS, ROWS if as_names else NAMES)


def test_missing_labels_in_lists_of_rows_and_in_a_frame():
    rows = [None, [0, 1], [1, -100]]
    for y in (rows, pd.DataFrame({"a": [np.nan, 0, 1], "b": [np.nan, True, np.nan]}, dtype=object)):
        assert _rows_and_names(y)[0].tolist() == [[-100, -100], [0, 1], [1, -100]]


def test_the_same_seed_gives_the_same_classifier(encoder, fitted):
    for rows in (sparse.csr_array(ROWS), ROWS.astype(bool)):
        assert np.array_equal(clone(fitted).fit(np.array(TEXTS), rows).predict_proba(TEST), fitted.predict_proba(TEST))


def test_missing_labels_are_missing(encoder):
    rows = np.where(np.arange(120)[:, None] % 5 == 0, -100, ROWS)
    found = classifier(encoder).fit(TEXTS, rows)
    assert found.model_.config.num_train_examples < 0.7 * 120 + 1


def test_one_label_and_two_exclusive_ones(encoder):
    for rows in (ROWS[:, :1], np.eye(2, dtype=int)[np.arange(120) % 2]):
        assert classifier(encoder).fit(TEXTS, rows).predict(TEST).shape == (40, rows.shape[1])


def test_cross_validation_and_grid_search(encoder):
    quick = classifier(encoder).set_params(training_arguments=QUICK | {"max_steps": 2})
    scores = cross_val_score(quick, TEXTS, ROWS, cv=2, scoring="f1_micro")
    assert scores.shape == (2,) and np.isfinite(scores).all()
    search = GridSearchCV(quick, {"thresholds": ["macro", "micro"]}, cv=2, scoring="f1_macro", error_score="raise")
    assert search.fit(TEXTS, ROWS).best_params_["thresholds"] in ("macro", "micro")


def test_images(tmp_path):
    save_image_encoder(tmp_path)
    rows = digit_canvases(40, 1, 1).splits["train"]
    images, labels = list(rows["image"]), np.array(rows["labels"]).astype(int)
    options = {"training_arguments": QUICK | {"max_steps": 1}, "validation_fraction": 0.3}
    found = MultiLabelClassifier(str(tmp_path), task="vision", image_size=32, **options).fit(images, labels)
    assert found.predict(images[:3]).shape == (3, labels.shape[1])


def test_a_fitted_model_can_be_saved(fitted, tmp_path):
    fitted.model_.save_pretrained(tmp_path)
    fitted.processor_.save_pretrained(tmp_path)
    loaded = MLCLForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.predict(TEST) == fitted.model_.predict(TEST)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS[:-1], {}, "y has labels of 119 examples, X has 120"),
        (ROWS[:, 0], {}, "y must be "),
        (ROWS + 1, {}, "y: values must be "),
        (["a;b"] * len(ROWS), {}, "y must be .* got 'a;b'"),
        (ROWS, {"validation_fraction": 0}, "validation_fraction must be "),
        (ROWS, {"task": "image"}, "task must be "),
    ],
)
def test_what_is_wrong_is_named(rows, options, message, encoder):
    with pytest.raises(ValueError, match=message):
        MultiLabelClassifier(encoder, **options).fit(TEXTS, rows)


def test_predicting_before_fitting(encoder):
    with pytest.raises(NotFittedError):
        MultiLabelClassifier(encoder).predict(TEST)


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_get_params_invariance",
        "check_set_params",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
    ],
)
def test_checks_of_scikit_learn_that_need_no_table_of_numbers(check):
    getattr(estimator_checks, check)("MultiLabelClassifier", MultiLabelClassifier("some-encoder"))


def test_rows_are_those_of_the_names(fitted):
    assert np.array_equal(encode_labels(NAMES, label_names=CORPUS.label_names)[0], ROWS)
