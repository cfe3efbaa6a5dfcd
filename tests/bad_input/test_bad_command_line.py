"""Flags of every command that are missing, misspelt, of a wrong type, out of range, or contradict each other."""

import difflib

import pytest
from clear_line import check_line
from hypothesis import given
from hypothesis import strategies as st

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
    "num_train_epochs": "many",
    "per_device_train_batch_size": "8x 0 -4 4096",
    "seed": "x -1",
    "bf16": "perhaps",
    "temperature": "hot 0 -1 nan inf",
    "max_length": "ten 0 -5 2 4096",
    "validation_fraction": "half 1 nan",
    "alpha": "nan",
    "head_learning_rate": "-1",
    "weight_decay": "-1",
    "adam_beta1": "2",
    "warmup_steps": "-1",
    "protocol": "grid",
    "thresholds": "best",
    "max_train_samples": "0",
    "image_size": "32",
    "augmentation": "randaugment mixup",
    "corrupt_images": "skip maybe",
    "randaugment_magnitude": "5",
    "objective": "both",
    "classifier": "svm trained",
    "loss": "regg",
    "lr_scheduler_type": "wavy",
    "optim": "adamw adamw_bnb_8bit",
    "eval_strategy": "epochs",
    "report_to": "nobody",
    "encoder": "nobody/nothing",
    "image_column": "picture",
    "text_column": "txt",
    "label_column": "lables text tag_*",
    "text_pair_column": "text",
    "dataset": "nobody/nothing",
    "neftune_noise_alpha": "-1",
    "push_to_hub": "true",
    "resume_from_checkpoint": "true",
}

# What else is added to such a command, and the argument that the line names: by default the last flag.
TRAIN_CASES = {
    "--loss": None,
    "--loss msc --beta -1": None,
    "--objective joint --classification_weight -1": None,
    "--max_steps -1 --num_train_epochs 0 --objective joint --classifier trained": None,
    "--loss zlpr --classifier trained --refit false": None,
    "--max_steps -1 --num_train_epochs -2": None,
    "--save_strategy steps --save_steps 0": None,
    f"{VISION} --image_size 0": None,
    f"{VISION} --augmentation randaugment --randaugment_magnitude 99": "magnitude",
    f"{VISION} --max_length 16": None,
    f"{VISION} --randaugment_operations 1": None,
    "--objective joint --classification_loss focl": "loss",
    "--objective joint --classification_loss reg": None,
    "--loss bce --objective contrastive": "loss",
    "--loss bce --classification_loss focal": "loss",
    "--loss bce --temperature 0.1": None,
    "--loss msc --alpha 1": "'alpha'",
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
    "--bf16 true --fp16 true": None,
    "--deepspeed {root}/none.json": None,
    "--lr_scheduler_kwargs {{num_cycles": None,
    "--resume_from_checkpoint {root}/none": None,
    "--output_dir {a_file}": None,
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
    ("evaluate {model} --dataset {data} --text_pair_column text", "--text_pair_column"),
    ("evaluate {pairs} --dataset {data}", "--text_pair_column"),
    ("evaluate {image_model} --dataset {images} --split test", "splits"),
    ("evaluate {image_model} --dataset {data}", "image_column: "),
    ("evaluate {model} --dataset {images} --split train", "text_column: "),
    ("predict", "model"),
    ("predict {model}", "--text"),
    ("predict {model} --text a --image b", "--image"),
    ("predict {model} --image a.png", "--image"),
    ("predict {image_model} --text a", "--text"),
    ("predict {image_model} --image {root}/none.png", "--image"),
    ("predict {image_model} --file {a_file}", "--image|--file"),
    ("predict {model} --file {root}/none.txt", "--file"),
    ("predict {model} --file {data}/test.csv", "--column"),
    ("predict {model} --file {data}/test.csv --column txt", "--column"),
    ("predict {model} --file {encoder}/model.safetensors", "--file"),
    ("predict {model} --text a --top_k 0", "top_k"),
    ("predict {model} --text a --min_labels 4", "min_labels"),
    ("predict {model} --text a --min_labels 2 --top_k 1", "top_k"),
    ("predict {model} --text a --threshold nan", "threshold"),
    ("predict {model} --text a --text_pair b", "--text_pair"),
    ("predict {pairs} --text a", "--text_pair"),
    ("predict {pairs} --file {a_file} --text_pair b", "--text_pair"),
    ("predict {pairs} --file {a_file} --pair_column b", "--pair_column"),
    ("inspect {model}", "--dataset"),
    ("inspect {model} --dataset {data} --neighbours 0", "--neighbours"),
    ("inspect {model} --dataset {data} --seed 99999999999", "--seed"),
    ("inspect {model} --dataset {data} --output {a_file}", "--output"),
    ("inspect {unfitted} --dataset {data}", "model"),
    ("app {root}/none --space {root}/space", "model"),
    ("app {unfitted} --space {root}/space", "model"),
    ("app {model} --space {a_file}", "--space"),
    ("app {model} --task vision --space {root}/space", "--task"),
    ("app {model} --dataset {root}/none --space {root}/space", "dataset"),
    ("push {model} a/b/c", "repo_id"),
    ("export", "model"),
    ("export {unfitted}", "model"),
    ("export {model} --format onxn", "--format"),
    ("export {model} --quantize int4", "--quantize"),
    ("export {model} --output_dir {a_file}", "--output_dir"),
    ("export {image_model} --quantize int8 --output_dir {root}/onnx", "quantize"),
]

MISSING = list(REQUIRED)


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


def flags_of(parser):
    return sorted({flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")})


TRAIN_PARSER = DataclassParser((TrainArguments, MLCLTrainingArguments), prog="hf-mlcl train")
COMMAND_FLAGS = {
    "train": flags_of(TRAIN_PARSER),
    "evaluate": [*flags_of(DataclassParser(DataArguments)), "--split", "--batch_size"],
    "inspect": [*flags_of(DataclassParser(DataArguments)), "--split", "--batch_size", "--output", "--neighbours"],
    "predict": "--text --image --file --column --text_pair --pair_column --top_k --min_labels --threshold".split(),
    "demo": ["--output_dir", "--seed"],
}


def misspelt(flag, position, how):
    """A flag with one letter dropped, doubled, or swapped with the next."""
    at = 2 + position % (len(flag) - 2)
    if how == "drop":
        return flag[:at] + flag[at + 1 :]
    if how == "double":
        return flag[:at] + flag[at] + flag[at:]
    return flag[:at] + flag[at + 1 : at + 2] + flag[at] + flag[at + 2 :]


def suggestion(line):
    assert "did you mean " in line, line
    return line.split("did you mean ")[1].split("?")[0].strip("'")


@pytest.mark.parametrize("command", list(COMMAND_FLAGS))
def test_a_misspelt_flag_is_answered_with_the_right_one(command, capsys, world):
    @given(
        flag=st.sampled_from(COMMAND_FLAGS[command]),
        position=st.integers(0, 40),
        how=st.sampled_from(["drop", "double", "swap"]),
        joined=st.booleans(),
    )
    def check(flag, position, how, joined):
        wrong = misspelt(flag, position, how)
        if wrong in COMMAND_FLAGS[command] or len(wrong) < 4 or wrong in ("--help", "--json", "--seed"):
            return
        base = [] if command == "demo" else ["--dataset", "x", "--task", "text"]
        base = {"predict": ["m", "--text", "a"], "evaluate": ["m", *base], "inspect": ["m", *base]}.get(command, base)
        if command == "train":
            base = [*base, "--encoder", "x", "--output_dir", str(world.out)]
        with pytest.raises(SystemExit) as ended:
            main([command, *base, *([f"{wrong}=1"] if joined else [wrong, "1"])])
        line = capsys.readouterr().err
        assert ended.value.code == 2 and line.count("\n") == 1
        check_line(line.strip().removeprefix("hf-mlcl: error: "), f"{wrong}.*expected an option of hf-mlcl {command}")
        # The nearest flag, which need not be the one that was meant.
        near = [difflib.SequenceMatcher(None, wrong, one).ratio() for one in (flag, suggestion(line))]
        assert near[1] >= near[0], (wrong, line)

    check()
