"""The row of TF-IDF and linear SVM: it has what the other rows have, and sees nothing that they do not."""

import numpy as np
import pytest
from datasets import Dataset

from hf_mlcl.study.plan import read_arguments
from hf_mlcl.study.run import linear_svm

WORDS = ["oil", "wheat", "ship", "gold", "rain"]
LABELS = [*WORDS[:4], "late", "coin"]


@pytest.fixture
def svm(tmp_path):
    """Scores by split of SVMs on texts of words that are their labels.

    But the label `late` ("rain") is never given in training, and `coin` is chance.
    """
    rng = np.random.default_rng(0)
    for name, rows in (("train", 200), ("validation", 100), ("test", 100)):
        said = rng.random((rows, len(WORDS))) < 0.4
        columns = dict(zip(LABELS, [*said.T[:4], said[:, 4] & (name != "train"), rng.random(rows) < 0.5], strict=True))
        texts = [" ".join(["the", *np.array(WORDS)[row]]) for row in said]
        file = tmp_path / "corpus" / f"{name}.parquet"
        file.parent.mkdir(exist_ok=True)
        Dataset.from_dict(
            {"text": texts, **{label: column.astype(int).tolist() for label, column in columns.items()}}
        ).to_parquet(str(file))

    def run(**values):
        given = {"dataset": str(file.parent), "task": "text", "encoder": "none", "label_column": ",".join(LABELS)}
        job, _ = read_arguments({**given, "use_cpu": True, **values}, str(tmp_path / "out"))
        found, about = linear_svm(job, 1)
        assert about["train_label_counts"][4] == 0
        return {name: {row["label"]: row for row in one.per_label} for name, one in found[""].items()}

    return run


def test_the_svm_learns_from_validation_examples_too_unless_no_row_does(svm):
    assert svm()["test"]["late"]["f1"] > 0.9
    assert svm(refit=False)["test"]["late"]["f1"] < 0.9


def test_the_svm_s_validation_scores_are_of_svms_that_have_not_seen_the_example(svm):
    of = svm()["validation"]
    assert of["oil"]["average_precision"] > 0.9 and of["coin"]["average_precision"] < 0.75


def test_the_svm_s_thresholds_follow_the_rule_of_all_rows(svm):
    assert svm(thresholds="recall=1.0")["validation"]["coin"]["recall"] == 1
    assert len({row["threshold"] for row in svm(thresholds="micro")["test"].values()}) == 1
