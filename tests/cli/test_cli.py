import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from ranks import torchrun
from safetensors.torch import load_file
from tiny import save_texts

from hf_mlcl import MLCLConfig, MLCLTrainer
from hf_mlcl.cli import main

QUIET = ["--report_to", "none", "--disable_tqdm", "true", "--use_cpu", "true", "--save_strategy", "no"]
REQUIRED = {"macro_f1", "micro_f1", "hamming_loss", "map", "lrap", "macro_f1_at_half", "micro_f1_at_half"}
REPOSITORY = Path(__file__).resolve().parents[2]


def text_arguments(data, encoder, output, *more):
    base = ["--task", "text", "--encoder", str(encoder), "--dataset", str(data), "--output_dir", str(output)]
    return [*base, "--per_device_train_batch_size", "16", "--learning_rate", "3e-3", *QUIET, *more]


@pytest.fixture(scope="module")
def trained(text_data, text_encoder, tmp_path_factory):
    """A text model trained by the command line."""
    output = tmp_path_factory.mktemp("out") / "model"
    main(["train", *text_arguments(text_data, text_encoder, output, "--num_train_epochs", "4")])
    return output


def fails(capsys, *arguments):
    """Runs a command that must end with status 2 and one line on standard error; returns the line."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-mlcl: error: ")]
    assert exit_.value.code == 2 and len(lines) == 1
    return lines[0].removeprefix("hf-mlcl: error: ")


def test_train_leaves_model_processor_card_and_metrics(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "metrics.json", "run.json"} <= names
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics.keys() == {"validation", "test"}
    for values in metrics.values():
        assert REQUIRED <= values.keys()
        assert all(isinstance(value, float) for value in values.values())
    card = (trained / "README.md").read_text()
    assert f"{metrics['test']['macro_f1']:.3f}" in card and "None" not in card and str(trained.parent) not in card
    run = json.loads((trained / "run.json").read_text())
    assert str(trained.parent) not in str(run) and run["job"]["task"] == "text"
    assert run["arguments"]["num_train_epochs"] == 4 and run["objective"]["loss"] == "reg"


def test_train_says_what_it_read_and_ends_with_scores_and_what_to_do(text_data, text_encoder, tmp_path, capsys):
    main(["train", *text_arguments(text_data, text_encoder, tmp_path / "m", "--max_steps", "4")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("column 'text' is the text; labels from labels")
    metrics, rows = (json.loads((tmp_path / "m" / f"{name}.json").read_text()) for name in ("metrics", "per_label"))
    head = next(number for number, line in enumerate(lines) if line.startswith("percent"))
    assert lines[head].split()[:4] == ["percent", "Micro-F1", "Macro-F1", "mAP"]
    for number, name in enumerate(("validation", "test"), head + 1):
        scores = [f"{100 * metrics[name][key]:.1f}" for key in ("micro_f1", "macro_f1", "map")]
        assert lines[number].split()[:4] == [name, *scores]
    comparison = json.loads((tmp_path / "m" / "run.json").read_text())["classifier"]["comparison"]
    before = next(line for line in lines if line.startswith("encoder before"))
    assert before.split()[3] == f"{100 * comparison['before']['micro_f1']:.1f}"
    weakest = min((row for row in rows["test"] if row["support"]), key=lambda row: (row["f1"], -row["support"]))
    assert f"): {weakest['label']} {100 * weakest['f1']:.0f} ({weakest['support']})" in "\n".join(lines)
    assert [line.split()[1] for line in lines[-3:]] == ["predict", "inspect", "push"]


def test_help_is_short_and_the_whole_is_one_option_away(capsys):
    shown = {}
    for option in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as end:
            main(["train", option])
        assert end.value.code == 0
        shown[option] = capsys.readouterr().out
    assert len(shown["--help"].splitlines()) < 70 and "Default: 16." in shown["--help"]
    assert "--adam_beta1" not in shown["--help"] and "--adam_beta1" in shown["--help-all"]
    options = re.findall(r"^  (--\w+)", shown["--help"], re.MULTILINE)
    assert len(options) > 20 and all(option in shown["--help-all"] for option in options)


def test_evaluate_prints_what_train_measured(trained, text_data, capsys):
    main(["evaluate", str(trained), "--dataset", str(text_data), "--split", "test"])
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert "loss" not in printed
    expected = json.loads((trained / "metrics.json").read_text())["test"]
    assert printed.keys() == expected.keys()
    assert printed == pytest.approx(expected)


def test_thresholds_by_name_and_number(trained, text_data, capsys):
    def labels(*more):
        main(["predict", str(trained), "--text", "some text", "--json", *more])
        return {row["label"]: row["score"] for row in json.loads(capsys.readouterr().out)["labels"]}

    capsys.readouterr()
    scores = labels("--threshold", "0")
    name, other = list(scores)[:2]
    assert len(scores) > 2 and set(labels("--threshold", f"{name}=0", "--threshold", "1")) == {name}
    low, high = labels("--threshold", f"{other}=0"), labels("--threshold", f"{other}=1")
    assert low.keys() - high.keys() == {other} and high.keys() == labels().keys() - {other}
    measured = []
    for more in ([], ["--threshold", "0"]):
        main(["evaluate", str(trained), "--dataset", str(text_data), *more])
        measured.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert measured[1]["micro_recall"] == 1 and measured[0]["map"] == measured[1]["map"]
    for command in (["predict", "--text", "a"], ["evaluate", "--dataset", text_data]):
        for wrong, said in ((f"{name}x=0.5", f"did you mean '{name}'"), ("2", "from 0 to 1"), ("high", "LABEL=0.4")):
            line = fails(capsys, command[0], trained, *command[1:], "--threshold", wrong)
            assert line.startswith("--threshold: ") and said in line


def test_train_reaches_a_precision_or_says_which_labels_do_not(text_data, text_encoder, tmp_path, capsys, caplog):
    more = ["--num_train_epochs", "0", "--thresholds", "precision=0.9"]
    main(["train", *text_arguments(text_data, text_encoder, tmp_path / "m", *more)])
    shown = capsys.readouterr()
    assert "\r" not in shown.out + shown.err and "{'" not in shown.out
    unreached = json.loads((tmp_path / "m" / "run.json").read_text())["classifier"].get("unreached", [])
    rows = json.loads((tmp_path / "m" / "per_label.json").read_text())["validation"]
    assert all(row["precision"] >= 0.9 for row in rows if row["label"] not in unreached)
    assert len(unreached) < len(rows)
    line = fails(capsys, "train", *text_arguments(text_data, text_encoder, tmp_path / "n", "--thresholds", "f1=1"))
    assert line.startswith("--thresholds: expected one of balanced, macro, micro, precision=P")


def test_the_encoder_reads_the_validation_split_once(text_data, text_encoder, tmp_path, monkeypatch):
    read, loop = [], MLCLTrainer.evaluation_loop

    def counted(self, dataloader, *args, **kwargs):
        read.append(len(dataloader.dataset))
        return loop(self, dataloader, *args, **kwargs)

    monkeypatch.setattr(MLCLTrainer, "evaluation_loop", counted)
    for more in ([], ["--refit", "false"]):
        read.clear()
        output = tmp_path / f"m{len(more)}"
        main(["train", *text_arguments(text_data, text_encoder, output, "--num_train_epochs", "0", *more)])
        run = json.loads((output / "run.json").read_text())
        sizes = [run["examples"]["train"], run["examples"]["validation"], run["labels"], run["examples"]["test"]]
        assert read == sizes  # between them the names of the labels


@pytest.mark.parametrize("refit", ["true", "false"])
def test_figures_of_each_split_are_those_of_its_rows(refit, text_data, text_encoder, tmp_path):
    header, *lines = (text_data / "train.csv").read_text().splitlines()
    parts = {"train": lines[:110], "validation": lines[110:170], "test": lines[170:]}
    (tmp_path / "data").mkdir()
    for name, part in parts.items():
        (tmp_path / "data" / f"{name}.csv").write_text("\n".join([header, *part]) + "\n")
    more = ["--num_train_epochs", "0", "--refit", refit]
    main(["train", *text_arguments(tmp_path / "data", text_encoder, tmp_path / "m", *more)])
    metrics, rows, run = (
        json.loads((tmp_path / "m" / f"{name}.json").read_text()) for name in ("metrics", "per_label", "run")
    )
    counts = {name: Counter(";".join(line.split(",")[1] for line in part).split(";")) for name, part in parts.items()}
    assert counts["validation"] != counts["test"]
    assert metrics.keys() == rows.keys() == {"validation", "test"}
    for name, part in rows.items():
        assert {row["label"]: row["support"] for row in part} == {
            row["label"]: counts[name][row["label"]] for row in part
        }
        assert all(row["train_count"] == counts["train"][row["label"]] for row in part)
        assert metrics[name]["macro_f1"] == pytest.approx(sum(row["f1"] for row in part) / len(part))
    for name, value in run["classifier"]["validation"].items():  # by which strengths and thresholds were chosen
        assert metrics["validation"][name] == pytest.approx(value, abs=1e-6)


def test_predict(trained, tmp_path, capsys):
    def asked(*arguments):
        main(["predict", str(trained), *map(str, arguments), "--json"])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    capsys.readouterr()
    (row,) = asked("--text", "some text", "--min_labels", "2")
    assert row["input"] == "some text" and len(row["labels"]) >= 2 and row["labels"][0].keys() == {"label", "score"}
    for text in ("-oil fell", "-oil"):
        assert asked("--text", text)[0]["input"] == text
    found = asked("--text", "one", "--text", "-two")
    assert [row["input"] for row in found] == ["one", "-two"]
    alone = asked("--text", "one") + asked("--text", "-two")
    assert [[label["label"] for label in row["labels"]] for row in found] == [
        [label["label"] for label in row["labels"]] for row in alone
    ]
    (tmp_path / "texts.txt").write_bytes("\ufeffone\n\ntwo\u2028\x0c\r\x85\x1cthree\r\n\n".encode())
    main(["predict", str(trained), "--file", str(tmp_path / "texts.txt"), "--top_k", "1", "--threshold", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["one", "", "two three", ""]  # an answer beside each line
    for name in ("texts.csv", "texts.CSV"):
        (tmp_path / name).write_text("body\none\n\ntwo\n")
        for column in (["--column", "body"], []):
            found = asked("--file", tmp_path / name, *column)
            assert [line["input"] for line in found] == ["one", "", "two"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--loss", "bce"], {"objective": "classification", "classification_loss": "bce"}),
        (["--objective", "joint", "--loss", "base"], {"objective": "joint", "loss": "base"}),
        (["--loss", "zlpr", "--classifier", "trained"], {"objective": "classification"}),
    ],
)
def test_objectives(more, expected, text_data, text_encoder, tmp_path):
    main(["train", *text_arguments(text_data, text_encoder, tmp_path / "m", "--max_steps", "2", *more)])
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert {name: config[name] for name in expected} == expected
    fitted = json.loads((tmp_path / "m" / "run.json").read_text())["classifier"]["linear_evaluation"]
    assert fitted == ("trained" not in more)


DEFAULT = {"objective": "joint", "loss": "reg", "classification_loss": "zlpr", "classification_weight": 1.0}


@pytest.mark.parametrize(
    ("more", "numbers", "expected"),
    [
        ([], False, DEFAULT | {"prototype_init": "label_names"}),
        ([], True, DEFAULT | {"prototype_init": "xavier"}),
        (["--classification_weight", "0.5"], False, DEFAULT | {"classification_weight": 0.5}),
        (["--prototype_init", "xavier"], False, DEFAULT | {"prototype_init": "xavier"}),
        (["--loss", "reg"], False, {"objective": "contrastive", "prototype_init": "xavier"}),
    ],
)
def test_without_a_loss_it_trains_what_measured_best(more, numbers, expected, text_encoder, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    save_texts(data, names=list("012345") if numbers else None)
    main(["train", *text_arguments(data, text_encoder, tmp_path / "m", "--max_steps", "2", *more)])
    config = MLCLConfig.from_pretrained(tmp_path / "m")
    assert {name: getattr(config, name) for name in expected} == expected


def test_vision(image_data, image_encoder, tmp_path, capsys):
    base = ["--task", "vision", "--encoder", str(image_encoder), "--dataset", str(image_data)]
    more = ["--output_dir", str(tmp_path), "--augmentation", "randaugment", "--image_size", "32", "--max_steps", "2"]
    main(["train", *base, *more, "--per_device_train_batch_size", "8", *QUIET])
    assert json.loads((tmp_path / "metrics.json").read_text()).keys() == {"validation"}
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["size"] == {"height": 32, "width": 32}
    capsys.readouterr()
    main(["evaluate", str(tmp_path), "--dataset", str(image_data), "--split", "validation"])
    printed = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    measured = json.loads((tmp_path / "metrics.json").read_text())["validation"]
    assert printed.keys() == measured.keys()
    Image.new("L", (50, 60)).save(tmp_path / "grey.png")
    main(["predict", str(tmp_path), "--image", str(tmp_path / "grey.png"), "--json", "--min_labels", "1"])
    assert json.loads(capsys.readouterr().out)["labels"]


SCRIPTS = {
    "data parallel": (REPOSITORY / "scripts" / "train.py", ()),
    "in shards": (Path(__file__).with_name("sharded_training.py"), ("--bf16", "true")),
}


@pytest.mark.parametrize("kind", ["data parallel", pytest.param("in shards", marks=pytest.mark.slow)])
def test_script_under_torchrun(text_data, text_encoder, tmp_path, kind):
    pytest.importorskip("matplotlib")
    script, more = SCRIPTS[kind]
    output = tmp_path / "m"
    arguments = text_arguments(text_data, text_encoder, output, "--max_steps", "2", "--pictures", "true", *more)
    torchrun(2, script, *arguments)
    assert json.loads((output / "run.json").read_text())["processes"] == 2
    assert all(torch.isfinite(t).all() for t in load_file(output / "model.safetensors").values())
    assert (output / "figures" / "embedding_map.png").is_file() and not list(output.glob("checkpoint-*"))
