"""`hf-mlcl train FILE`: files of arguments that are broken, empty, of another kind, or hold wrong names and values."""

import json

import pytest
import yaml

# Name of the file, what it holds (None: no file; a mapping: written as YAML or JSON over arguments that would run).
FILE_CASES = {
    "missing": ("job.yaml", None, "job.yaml"),
    "another ending": ("job.toml", "task = 1", "arguments"),
    "broken yaml": ("job.yaml", "task", "job.yaml"),
    "a python object in yaml": ("job.yaml", "seed: !!python/object:os.system {}", "job.yaml"),
    "broken json": ("job.json", '{"task": "text"', "job.json"),
    "a list": ("job.yaml", "- text\n", "job.yaml"),
    "empty yaml": ("job.yaml", "", "job.yaml"),
    "binary": ("job.yaml", b"\x00\xff\xfe\x80", "job.yaml"),
    "not utf-8": ("job.json", '{"task": "t\u00e9xt"}'.encode("latin-1"), "job.json"),
    "unknown name": ("job.yaml", {"lose": "reg"}, "job.yaml"),
    "a text for a number": ("job.yaml", {"learning_rate": "fast"}, "learning_rate"),
    "a fraction for an integer": ("job.json", {"max_steps": 1.5}, "max_steps"),
    "a list for a number": ("job.yaml", {"seed": [1, 2]}, "seed"),
    "a list for a text": ("job.yaml", {"dataset": ["a", "b"]}, "dataset"),
    "another choice": ("job.yaml", {"task": "audio"}, "task"),
    "out of range": ("job.yaml", {"per_device_train_batch_size": 0}, "per_device_train_batch_size"),
    "null for a number": ("job.yaml", {"save_steps": None}, "job.yaml"),
    "null for what is needed": ("job.yaml", {"dataset": None}, "dataset"),
}


def written(folder, name, content, world):
    path = folder / name
    base = {"task": "text", "encoder": str(world.encoder), "dataset": str(world.data), "output_dir": str(world.out)}
    base |= {"use_cpu": True, "report_to": "none", "max_steps": 1, "per_device_train_batch_size": 8}
    if isinstance(content, dict):
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


DESCRIPTION_CASES = {
    "missing": (None, "none.json"),
    "broken": ("{", "label_descriptions"),
    "a list": ("[1]", "label_descriptions"),
    "numbers": ('{"red": 1}', "label_descriptions"),
    "another label": ('{"purple": "a colour"}', "label_descriptions"),
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
