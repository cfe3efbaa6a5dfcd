"""The row of TF-IDF and linear SVM: it has what the other rows have, and sees nothing that they do not."""

import dataclasses

import numpy as np
import pytest
from datasets import Dataset

from hf_mlcl.data import labels
from hf_mlcl.study import Study, plan
from hf_mlcl.study.plan import read_arguments
from hf_mlcl.study.run import finished, linear_svm, write

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


def csv_job(tmp_path, rows, **values):
    file = tmp_path / "corpus.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    given = {"dataset": str(file), "task": "text", "encoder": "none", "use_cpu": True, **values}
    return read_arguments(given, str(tmp_path / "out"))[0]


def test_texts_without_spaces_between_words_are_read_by_their_characters(tmp_path):
    rng, words = np.random.default_rng(0), {"a": "石油价格", "b": "小麦出口"}
    rows = []
    for place in range(200):
        noise = "".join(chr(0x5000 + character) for character in rng.integers(0, 400, 20))
        rows.append((noise[:10] + words["ab"[place % 2]] + noise[10:], "ab"[place % 2]))
    found, _ = linear_svm(csv_job(tmp_path, rows), 1)
    assert found[""]["validation"].metrics["macro_f1"] > 0.8


def test_texts_without_words_are_read_by_their_characters(tmp_path):
    found, _ = linear_svm(csv_job(tmp_path, [("+ ! +" if n % 2 else "? -", "ab"[n % 2]) for n in range(60)]), 1)
    assert found[""]["validation"].metrics["macro_f1"] == 1


def test_of_labels_too_many_for_rows_there_is_a_run_without_scores(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(labels, "MAX_ROW_LABELS", 1)
    job = csv_job(tmp_path, [(f"word{n}", "ab"[n % 2]) for n in range(40)])
    found, about = linear_svm(job, 1)
    write(tmp_path, found, about)
    assert found == {"": {}} and about["labels"] == 2 and finished(tmp_path, ["study"])
    study = Study([{"dataset": job.dataset, "task": "text", "encoder": "none"}], losses=["reg"], label_subsets=[1])
    monkeypatch.setattr(plan.AutoConfig, "from_pretrained", lambda *given, **options: None)
    study.check()
    assert not caplog.messages  # of one label there is a row
    dataclasses.replace(study, label_subsets=[1, None]).check()
    assert len(caplog.messages) == 1 and "no row 'TF-IDF + linear SVM'" in caplog.messages[0]
