"""Flags of every command that are missing, misspelt, of a wrong type, out of range, or contradict each other."""

import difflib

import pytest
from clear_line import check_line

from hf_mlcl.cli import main
from hf_mlcl.cli.arguments import DataArguments, DataclassParser, TrainArguments
from hf_mlcl.training import MLCLTrainingArguments

REQUIRED = {"task": "text", "encoder": "{encoder}", "dataset": "{data}", "output_dir": "{out}"}
QUIET = "--report_to none --disable_tqdm true --use_cpu true --save_strategy no --max_steps 1".split()
TRAIN = [
    *(part for name, value in REQUIRED.items() for part in (f"--{name}", value)),
    *("--per_device_train_batch_size", "8"),
    *QUIET,
]
VISION = "--task vision --encoder {image_encoder} --dataset {images}"

# Values of one flag that are wrong beside a command of `train` that would run.
BAD_VALUES = {
    "learning_rate": "fast -1 nan",
    "per_device_train_batch_size": "8x 0 -4",
    "optim": "adamw_bnb_8bit",
    "max_length": "ten 0 -5 2 4096",
    "validation_fraction": "half 1 nan",
    "max_train_samples": "0",
    "image_size": "32",
    "augmentation": "randaugment mixup",
    "corrupt_images": "skip maybe",
    "randaugment_magnitude": "5",
    "classifier": "svm",
    "encoder": "nobody/nothing",
    "image_column": "picture",
    "text_column": "txt",
    "label_column": "lables text tag_*",
    "text_pair_column": "text",
    "dataset": "nobody/nothing",
    "push_to_hub": "true",
    "resume_from_checkpoint": "true",
}

# What else is added to such a command, and the argument that the line names: by default the last flag.
TRAIN_CASES = {
    "--loss": None,
    "--max_steps -1 --num_train_epochs 0 --objective joint --classifier trained": None,
    "--loss reg --classifier trained": None,
    "--loss zlpr --classifier trained --refit false": None,
    "--save_strategy steps --save_steps 0": None,
    f"{VISION} --max_length 16": None,
    f"{VISION} --randaugment_operations 1": None,
    "--label_descriptions {a_file}": None,
    f"{VISION} --prototype_init label_names": None,
    "--task vision": "(encoder|image_column): ",
    "--task vision --encoder {image_encoder}": "image_column: ",
    "--task vision --dataset {images}": "encoder",
    "--encoder {image_encoder}": None,
    "--encoder {model}": None,
    "--encoder {a_file}": None,
    f"{VISION} --text_column words": None,
    "--dataset_config en": "config_name",
    "--dataset {root}/nowhere.csv": None,
    "--dataset {empty_folder}": None,
    "--load_best_model_at_end true --eval_strategy epoch": "load_best_model_at_end",
    "--eval_strategy steps --eval_steps 1 --save_strategy best --metric_for_best_model macro_f2": None,
    "--deepspeed {root}/none.json": None,
    "--lr_scheduler_kwargs {{num_cycles": None,
    "--resume_from_checkpoint {root}/none": None,
    "--output_dir {a_file}": None,
    "--lora_alpha 3": None,
    "--lora_r 0": None,
    "--lora_r 2 --peft_config {model}/config.json": None,
    "--peft_config {model}/config.json": None,
    "--peft_config none.json": None,
    "--lora_r 2 --lora_target_modules nothing": "adapter_config",
}

# Whole commands.
COMMAND_CASES = [
    ("trian", "command"),
    ("--loss", "command"),
    ("train --task text", "--dataset"),
    ("train {encoder} --task text", "arguments"),
    ("losses reg", "reg"),
    ("demo --seed x", "--seed"),
    ("demo --seed -1 --output_dir {root}/demo", "seed"),
    ("demo --output_dir {a_file}", "output_dir"),
    ("evaluate", "model"),
    ("evaluate {model}", "--dataset"),
    ("evaluate {model} --dataset {data} --split tset", "--split"),
    ("evaluate {model} --dataset {data} --batch_size 0", "batch_size"),
    ("evaluate {model} --dataset {data} --task vision", "--task"),
    ("evaluate {model} --dataset {data} --loss reg", "--loss"),
    ("evaluate {pairs} --dataset {data}", "--text_pair_column"),
    ("evaluate {image_model} --dataset {images} --split test", "splits"),
    ("evaluate {image_model} --dataset {data}", "image_column: "),
    ("evaluate {model} --dataset {images} --split train", "text_column: "),
    ("predict", "model"),
    ("predict {unfitted} --text a", "fit_classifier"),
    ("evaluate {unfitted} --dataset {data}", "fit_classifier"),
    ("inspect {unfitted} --dataset {data}", "fit_classifier"),
    ("predict {model}", "--text"),
    ("predict {model} --text a --image b", "--image"),
    ("predict {model} --image a.png", "--image"),
    ("predict {image_model} --text a", "--text"),
    ("predict {image_model} --image {root}/none.png", "--image"),
    ("predict {image_model} --file {a_file}", "--image|--file"),
    ("predict {model} --file {root}/none.txt", "--file"),
    ("predict {model} --file {data}/test.csv --column txt", "--column"),
    ("predict {model} --file {encoder}/model.safetensors", "--file"),
    ("predict {model} --text a --min_labels 2 --top_k 1", "top_k"),
    ("predict {model} --text a --text_pair b", "--text_pair"),
    ("predict {pairs} --text a", "--text_pair"),
    ("predict {pairs} --file {a_file} --text_pair b", "--text_pair"),
    ("predict {pairs} --file {a_file} --pair_column b", "--text_pair_column"),
    ("inspect {model}", "--dataset"),
    ("inspect {model} --dataset {data} --neighbours 0", "--neighbours"),
    ("inspect {model} --dataset {data} --seed 99999999999", "--seed"),
    ("inspect {model} --dataset {data} --output {a_file}", "--output"),
    ("app {root}/none --space {root}/space", "model"),
    ("app {unfitted} --space {root}/space", "model"),
    ("app {model} --space {a_file}", "--space"),
    ("app {model} --task vision --space {root}/space", "--task"),
    ("app {model} --dataset {root}/none --space {root}/space", "dataset"),
    ("push {model} a/b/c", "repo_id"),
    ("export", "model"),
    ("export {unfitted}", "model"),
    ("export {model} --format onxn", "--format"),
    ("export {model} --output_dir {a_file}", "--output_dir"),
]

MISSING = [name for name in REQUIRED if name != "task"]  # which the columns tell


def filled(words, world):
    return [word.format_map(vars(world)) for word in words]


VALUE_CASES = [f"--{flag} {value}" for flag, values in BAD_VALUES.items() for value in values.split()]


@pytest.mark.parametrize("more", [*VALUE_CASES, *TRAIN_CASES])
def test_train_names_the_wrong_flag(more, world, command_fails):
    last = [word for word in more.split() if word.startswith("--")][-1].removeprefix("--")
    command_fails(["train", *filled([*TRAIN, *more.split()], world)], TRAIN_CASES.get(more) or last)


@pytest.mark.parametrize(("command", "message"), COMMAND_CASES, ids=[command for command, _ in COMMAND_CASES])
def test_a_command_names_the_wrong_argument(command, message, world, command_fails):
    command_fails(filled(command.split(), world), message)


@pytest.mark.parametrize("name", MISSING)
def test_train_names_the_flag_that_is_missing(name, world, command_fails):
    kept = [part for flag, value in REQUIRED.items() if flag != name for part in (f"--{flag}", value)]
    command_fails(["train", *filled([*kept, *QUIET], world)], f"--{name}: ")


# --- misspelt options ---


TRAIN_PARSER = DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train")


def flags_of(parser):
    return sorted({flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")})


DATA = ["m", "--dataset", "x"]
COMMANDS = {
    "train": (["--dataset", "x", "--task", "text", "--encoder", "x"], flags_of(TRAIN_PARSER)),
    "evaluate": (DATA, [*flags_of(DataclassParser(DataArguments)), "--split", "--batch_size"]),
    "inspect": (DATA, ["--split", "--batch_size", "--output", "--neighbours"]),
    "predict": (["m", "--text", "a"], "--image --column --text_pair --pair_column --min_labels --threshold".split()),
    "demo": ([], ["--output_dir"]),
}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_flag_with_a_letter_missing_is_answered_with_the_nearest_flag(command, capsys):
    base, flags = COMMANDS[command]
    for flag in flags:
        wrong = flag[:-2] + flag[-1]
        if wrong in flags or len(flag) < 6:
            continue
        for given in ([wrong, "1"], [f"{wrong}=1"]):
            with pytest.raises(SystemExit) as ended:
                main([command, *base, *given])
            line = capsys.readouterr().err
            assert ended.value.code == 2 and line.count("\n") == 1
            check_line(line.strip().removeprefix("hf-mlcl: error: "), f"^{wrong}: .*hf-mlcl {command}")
            suggested = line.split("did you mean ")[1].split("?")[0].strip("'")
            near = [difflib.SequenceMatcher(None, wrong, one).ratio() for one in (flag, suggested)]
            assert near[1] >= near[0], (wrong, line)
