"""`hf-mlcl train FILE`: files of arguments that are broken, empty, of another kind, or hold wrong names and values."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_bad_command_line import TRAIN_PARSER, edits, suggestion

from hf_mlcl.cli.arguments import DataclassParser, TrainArguments
from hf_mlcl.training import MLCLTrainingArguments

# Name of the file, what it holds (None: no file; a mapping: written as YAML or JSON over arguments that would run).
FILE_CASES = {
    "missing": ("job.yaml", None, "job.yaml: expected a file of arguments, found none"),
    "a folder": ("folder.yaml", "FOLDER", "folder.yaml: expected a file of arguments, found none"),
    "another ending": ("job.toml", "task = 1", "arguments: expected a flag or a .yaml or .json file .*job.toml"),
    "broken yaml": ("job.yaml", "task: [", "job.yaml: expected valid YAML, got"),
    "tabs in yaml": ("job.yaml", "task:\n\t- a", "job.yaml: expected valid YAML, got"),
    "two yaml documents": ("job.yaml", "task: text\n---\nseed: 1\n", "job.yaml: expected valid YAML, got"),
    "a python object in yaml": (
        "job.yaml",
        "seed: !!python/object:os.system {}",
        "job.yaml: expected valid YAML, got",
    ),
    "broken json": ("job.json", '{"task": "text"', "job.json: expected valid JSON, got"),
    "yaml named json": ("job.json", "task: text", "job.json: expected valid JSON, got"),
    "a list": ("job.yaml", "- text\n", "job.yaml: expected a mapping .*, got list"),
    "a number": ("job.json", "3", "job.json: expected a mapping .*, got int"),
    "a text": ("job.yaml", "train please", "job.yaml: expected a mapping .*, got str"),
    "empty yaml": ("job.yaml", "", "job.yaml: expected a mapping .*, got NoneType"),
    "empty json": ("job.json", "", "job.json: expected valid JSON, got"),
    "binary": ("job.yaml", b"\x00\xff\xfe\x80", "job.yaml: expected valid YAML, got"),
    "not utf-8": ("job.json", '{"task": "t\u00e9xt"}'.encode("latin-1"), "job.json: expected valid JSON, got"),
    "unknown name": ("job.yaml", {"lose": "reg"}, "job.yaml: expected arguments .*'lose' .did you mean 'loss'"),
    "a name with dashes": (
        "job.yaml",
        {"learning-rate": 1},
        "job.yaml: expected arguments .*'learning-rate' .*'learning_rate'",
    ),
    "a number as name": ("job.yaml", {3: 4}, "job.yaml: expected arguments of hf-mlcl train, got 3"),
    "a text for a number": ("job.yaml", {"learning_rate": "fast"}, "learning_rate: .*'fast'"),
    "a fraction for an integer": ("job.json", {"max_steps": 1.5}, "max_steps: .*1.5"),
    "a list for a number": ("job.yaml", {"seed": [1, 2]}, "seed: expected .*\\[1, 2\\]"),
    "a mapping for a number": ("job.json", {"temperature": {"a": 1}}, "temperature: expected .*'a'"),
    "a list for a text": ("job.yaml", {"dataset": ["a", "b"]}, "dataset: expected .*\\['a', 'b'\\]"),
    "a number for a path": ("job.yaml", {"encoder": 7}, "encoder: expected .*'7'"),
    "another choice": ("job.yaml", {"task": "audio"}, "task: expected one of text, vision, got 'audio'"),
    "yes for a choice": ("job.yaml", {"objective": True}, "objective: expected one of .*got (True|'True')"),
    "out of range": ("job.yaml", {"per_device_train_batch_size": 0}, "per_device_train_batch_size: expected .*got 0"),
    "not a number": ("job.yaml", {"temperature": float("nan")}, "temperature: expected .*got nan"),
    "null for a number": ("job.yaml", {"save_steps": None}, "job.yaml: save_steps: expected a value, got None"),
    "null for a choice": ("job.yaml", {"classifier": None}, "job.yaml: classifier: expected a value, got None"),
    "null for what is needed": ("job.yaml", {"dataset": None}, "dataset: expected .*got (None|none)"),
}


def written(folder, name, content, world):
    path = folder / name
    base = {"task": "text", "encoder": str(world.encoder), "dataset": str(world.data), "output_dir": str(world.out)}
    base |= {"use_cpu": True, "report_to": "none", "max_steps": 1, "per_device_train_batch_size": 8}
    if content == "FOLDER":
        path.mkdir()
    elif isinstance(content, dict):
        path.write_text((json.dumps if name.endswith("json") else yaml.safe_dump)(base | content))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    return path


@pytest.mark.parametrize("case", list(FILE_CASES))
def test_a_file_of_arguments_that_is_wrong(case, world, tmp_path, command_fails):
    name, content, message = FILE_CASES[case]
    command_fails(["train", written(tmp_path, name, content, world)], message)


@given(st.sampled_from(sorted({action.dest for action in TRAIN_PARSER._actions} - {"help"})), st.integers(0, 40))
def test_a_misspelt_name_in_a_file_is_answered_with_the_right_one(tmp_path, name, position):
    wrong = name[: position % len(name)] + name[position % len(name) + 1 :]
    if wrong in {action.dest for action in TRAIN_PARSER._actions} or len(wrong) < 4:
        return
    path = tmp_path / "job.json"
    path.write_text(json.dumps({wrong: 1}))
    with pytest.raises(ValueError, match=f"expected arguments of hf-mlcl train, got '{wrong}'") as error:
        DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train").parse([str(path)])
    nearest = suggestion(str(error.value))
    assert nearest == name or edits(wrong, nearest) == 1


DESCRIPTION_CASES = {
    "missing": (None, "none.json"),
    "broken": ("{", "label_descriptions: expected a JSON file"),
    "a list": ("[1]", "label_descriptions: expected a JSON object"),
    "numbers": ('{"red": 1}', "label_descriptions: expected a JSON object"),
    "another label": ('{"purple": "a colour"}', "label_descriptions: expected names among the labels, got 'purple'"),
}


@pytest.mark.parametrize("case", list(DESCRIPTION_CASES))
def test_a_file_of_label_descriptions_that_is_wrong(case, world, tmp_path, command_fails):
    content, message = DESCRIPTION_CASES[case]
    path = tmp_path / "none.json"
    if content is not None:
        path.write_text(content)
    flags = {"task": "text", "encoder": world.encoder, "dataset": world.data, "output_dir": world.out}
    base = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    more = ["--use_cpu", "true", "--prototype_init", "label_names", "--label_descriptions", str(path)]
    command_fails(["train", *base, *more], message)
