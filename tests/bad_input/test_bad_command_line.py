"""Flags of every command that are missing, misspelt, of a wrong type, out of range, or contradict each other."""

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

# What is added to a command of `train` that would run, and what the line says.
TRAIN_CASES = [
    # wrong types
    ("--loss", "--loss: expected a value, got none"),
    ("--learning_rate fast", "--learning_rate: expected .*float.*'fast'"),
    ("--num_train_epochs many", "--num_train_epochs: expected .*float.*'many'"),
    ("--max_steps 1.5", "--max_steps: expected .*int.*'1.5'"),
    ("--per_device_train_batch_size 8x", "--per_device_train_batch_size: expected .*int.*'8x'"),
    ("--seed x", "--seed: expected .*int.*'x'"),
    ("--bf16 perhaps", "--bf16: expected .*got 'perhaps'"),
    ("--temperature hot", "--temperature: expected .*float.*'hot'"),
    ("--views 1.5", "--views: expected .*int.*'1.5'"),
    ("--max_length ten", "--max_length: expected .*int.*'ten'"),
    ("--projection_dim wide", "--projection_dim: expected .*int.*'wide'"),
    ("--validation_fraction half", "--validation_fraction: expected .*float.*'half'"),
    # out of range
    ("--temperature 0", "temperature: expected .* above 0, got 0"),
    ("--temperature -1", "temperature: expected .* above 0, got -1"),
    ("--temperature nan", "temperature: expected .*, got nan"),
    ("--temperature inf", "temperature: expected .*, got inf"),
    ("--alpha nan", "alpha: expected .*, got nan"),
    ("--loss msc --beta -1", "beta: expected .*, got -1"),
    ("--objective joint --classification_weight -1", "classification_weight: expected .*, got -1"),
    ("--objective joint --classification_weight nan", "classification_weight: expected .*, got nan"),
    ("--head_learning_rate -1", "head_learning_rate: expected .*, got -1"),
    ("--learning_rate -1", "learning_rate: expected .*, got -1"),
    ("--learning_rate nan", "learning_rate: expected .*, got nan"),
    ("--weight_decay -1", "weight_decay: expected .*, got -1"),
    ("--adam_beta1 2", "adam_beta1: expected .*, got 2"),
    ("--adam_beta2 -0.5", "adam_beta2: expected .*, got -0.5"),
    ("--adam_epsilon -1", "adam_epsilon: expected .*, got -1"),
    ("--max_grad_norm nan", "max_grad_norm: expected .*, got nan"),
    ("--warmup_steps -1", "warmup_steps: expected .*, got -1"),
    ("--views 0", "views: expected .*, got 0"),
    ("--projection_dim 0", "projection_dim: expected .*, got 0"),
    ("--per_device_train_batch_size 0", "per_device_train_batch_size: expected .*, got 0"),
    ("--per_device_train_batch_size -4", "per_device_train_batch_size: expected .*, got -4"),
    ("--per_device_eval_batch_size 0", "per_device_eval_batch_size: expected .*, got 0"),
    ("--per_device_train_batch_size 4096", "per_device_train_batch_size: expected at most the .*, got 4096"),
    ("--gradient_accumulation_steps 0", "gradient_accumulation_steps: expected .*, got 0"),
    (
        "--max_steps -1 --num_train_epochs 0 --objective joint --classifier trained",
        "--classifier: expected 'linear_evaluation' with --num_train_epochs 0, got 'trained'",
    ),
    (
        "--loss zlpr --classifier trained --refit false",
        "--refit: expected none with --classifier trained, which fits nothing; got False",
    ),
    ("--protocol grid", "--protocol: expected one of .*'grid'"),
    ("--thresholds best", "--thresholds: expected one of .*'best'"),
    ("--max_steps -1 --num_train_epochs -2", "num_train_epochs: expected .*, got -2"),
    ("--max_steps -1 --num_train_epochs nan", "num_train_epochs: expected .*, got nan"),
    ("--max_steps 0", "max_steps: expected .*, got 0"),
    ("--logging_steps 0", "logging_steps: expected .*, got 0"),
    ("--save_strategy steps --save_steps 0", "save_steps: expected .*, got 0"),
    ("--eval_strategy steps --eval_steps 0", "eval_steps: expected .*, got 0"),
    ("--seed -1", "seed: expected .*, got -1"),
    ("--dataloader_num_workers -1", "dataloader_num_workers: expected .*, got -1"),
    ("--max_length 0", "max_length: expected .*, got 0"),
    ("--max_length -5", "max_length: expected .*, got -5"),
    ("--max_length 2", "max_length: expected more than the 2 special tokens, got 2"),
    ("--max_length 4096", "max_length: expected at most .*, got 4096"),
    ("--max_train_samples 0", "max_train_samples: expected at least 1, got 0"),
    ("--max_eval_samples -1", "max_eval_samples: expected at least 1, got -1"),
    ("--validation_fraction 1", "validation_fraction: expected .*, got 1"),
    ("--validation_fraction nan", "validation_fraction: expected .*, got nan"),
    (f"{VISION} --image_size 0", "image_size: expected .*, got 0"),
    (f"{VISION} --augmentation randaugment --randaugment_magnitude 99", "magnitude: expected .*, got 99"),
    (f"{VISION} --augmentation randaugment --randaugment_operations -1", "(num_ops|operations): expected .*, got -1"),
    # flags for inputs of the other kind, or that need another one
    ("--image_size 32", "image_size: expected none for task 'text', got 32"),
    ("--augmentation randaugment", "augmentation: expected none for task 'text', got 'randaugment'"),
    ("--corrupt_images skip", "corrupt_images: expected error for task 'text', got 'skip'"),
    ("--randaugment_magnitude 5", "randaugment_magnitude: expected --augmentation randaugment beside it, got 5 alone"),
    (f"{VISION} --max_length 16", "max_length: expected none for task 'vision', got 16"),
    (f"{VISION} --randaugment_operations 1", "randaugment_operations: expected --augmentation randaugment beside it"),
    # choices
    ("--task audio", "--task: expected one of .*'audio'"),
    ("--objective both", "--objective: expected one of .*'both'"),
    ("--pooling first", "--pooling: expected one of .*'first'"),
    ("--prototype_init zero", "--prototype_init: expected one of .*'zero'"),
    ("--classifier svm", "--classifier: expected one of .*'svm'"),
    ("--augmentation mixup", "--augmentation: expected one of .*'mixup'"),
    ("--corrupt_images maybe", "--corrupt_images: expected one of .*'maybe'"),
    ("--loss regg", "loss: expected one of .*'regg' .did you mean 'reg'"),
    ("--objective joint --classification_loss focl", "loss: expected one of .*'focl' .did you mean 'focal'"),
    ("--objective joint --classification_loss reg", "classification_loss: expected one of .*'reg'"),
    ("--lr_scheduler_type wavy", "lr_scheduler_type: expected one of .*'wavy'"),
    ("--optim adamw", "--optim: expected one of .*'adamw' .did you mean "),
    ("--eval_strategy epochs", "eval_strategy: expected one of .*'epochs' .did you mean 'epoch'"),
    ("--report_to nobody", "report_to: expected .*nobody"),
    # contradictions
    ("--loss bce --objective contrastive", "loss: expected a contrastive loss .*'bce'"),
    ("--loss zlpr --objective joint", "loss: expected a contrastive loss .*'zlpr'"),
    ("--loss bce --classification_loss focal", "loss: expected a contrastive loss .*'bce'"),
    ("--loss bce --temperature 0.1", "temperature: expected none .*'bce'.*0.1"),
    ("--loss msc --alpha 1", "loss 'msc': expected parameters among temperature, beta, got 'alpha'"),
    ("--loss reg --beta 1", "loss 'reg': expected parameters among temperature, alpha, got 'beta'"),
    ("--loss base --alpha 1", "loss 'base': expected parameters among temperature, got 'alpha'"),
    ("--classifier trained", "--classifier: expected 'linear_evaluation' .*got 'trained'"),
    ("--label_descriptions {a_file}", "label_descriptions: expected "),
    (f"{VISION} --prototype_init label_names", "prototype_init: expected 'xavier' .*'label_names'"),
    ("--task vision", "(encoder|image_column): "),
    ("--task vision --encoder {image_encoder}", "image_column: "),
    ("--task vision --dataset {images}", "encoder: expected "),
    ("--encoder {image_encoder}", "encoder: expected "),
    ("--encoder {model}", "encoder: expected .*multi-label model"),
    ("--encoder {root}/nowhere", "encoder: expected .*nowhere"),
    ("--encoder {a_file}", "encoder: expected .*a_file"),
    ("--encoder {empty_folder}", "encoder: expected .*empty_folder"),
    ("--encoder nobody/nothing", "encoder: expected .*'nobody/nothing'"),
    ("--image_column picture", "image_column: expected none for task 'text', got 'picture'"),
    (f"{VISION} --text_column words", "text_column: expected none for task 'vision', got 'words'"),
    ("--text_column txt", "text_column: expected .*got 'txt' .nearest: 'text'"),
    ("--label_column lables", "label_column: expected .*got 'lables' .nearest: 'labels'"),
    ("--label_column text", "label_column: expected another column than text_column, got 'text'"),
    ("--label_column tag_*", "label_column: expected a match among text, labels, got 'tag_\\*'"),
    ("--text_pair_column text", "text_pair_column: expected another column than text_column, got 'text'"),
    ("--dataset_config en", "config_name: expected none .*got 'en'"),
    ("--dataset_revision v2", "revision: expected none .*got 'v2'"),
    ("--dataset nobody/nothing", "dataset: expected a file, a folder or a Hub id, got 'nobody/nothing'"),
    ("--dataset {root}/nowhere.csv", "dataset: expected a file or folder, found none at .*nowhere.csv"),
    ("--dataset {empty_folder}", "dataset: expected files ending in .*got none"),
    ("--load_best_model_at_end true --eval_strategy epoch", "load_best_model_at_end: expected .*EPOCH .*NO"),
    (
        "--eval_strategy steps --eval_steps 1 --save_strategy best --metric_for_best_model macro_f2",
        "metric_for_best_model: expected one of .*'macro_f2' .did you mean 'macro_f1'",
    ),
    ("--bf16 true --fp16 true", "fp16: expected "),
    ("--deepspeed {root}/none.json", "deepspeed: expected "),
    ("--lr_scheduler_kwargs {{num_cycles", "lr_scheduler_kwargs: expected a mapping in JSON .*got '{num_cycles'"),
    ("--accelerator_config {root}/none.json", "accelerator_config: expected a mapping in JSON or a file .*none.json"),
    ("--optim_args fast", "optim_args: expected name=value, .*got 'fast'"),
    ("--optim adamw_bnb_8bit", "optim: expected the package it needs, got none for adamw_bnb_8bit"),
    ("--torch_compile_mode quick", "torch_compile_mode: expected one of .*got 'quick'"),
    ("--neftune_noise_alpha -1", "neftune_noise_alpha: expected .*, got -1"),
    ("--label_smoothing_factor 2", "label_smoothing_factor: expected .*, got 2"),
    ("--eval_delay -1", "eval_delay: expected .*, got -1"),
    ("--push_to_hub true", "push_to_hub: expected access to the Hub, got: "),
    ("--resume_from_checkpoint {root}/none", "resume_from_checkpoint: expected true or the folder of a checkpoint"),
    ("--resume_from_checkpoint true", "resume_from_checkpoint: expected a checkpoint in .*, found none"),
    ("--output_dir {a_file}", "output_dir: expected a folder, .*a_file"),
    ("--output_dir {a_file}/below", "output_dir: expected a folder, .*below"),
]

# Whole commands.
COMMAND_CASES = [
    ("trian", "command: expected one of .*'trian' .did you mean 'train'"),
    ("--loss", "command: expected one of .*'--loss'"),
    ("train --task text", "--dataset: expected a value, got none"),
    ("train {encoder} --task text", "arguments: expected a flag or a .yaml or .json file .*got .*encoder"),
    ("train reg --task text", "arguments: expected a flag or a .yaml or .json file .*got 'reg'"),
    ("losses reg", "reg: expected an option of hf-mlcl losses"),
    ("losses --help=1", "-h: expected no value, got '1'"),
    ("losses --jsn", "--jsn: expected an option of hf-mlcl losses"),
    ("demo --seed x", "--seed: expected .*int.*'x'"),
    ("demo --seed -1 --output_dir {root}/demo", "seed: expected .*, got -1"),
    ("demo --output_dir {a_file}", "output_dir: expected a folder, .*a_file"),
    ("demo --outputdir x", "--outputdir: expected an option .*did you mean --output_dir"),
    ("evaluate", "model: expected a value, got none|--dataset: expected a value, got none"),
    ("evaluate {model}", "--dataset: expected a value, got none"),
    ("evaluate {model} --dataset {data} --split tset", "--split: expected one of .*'tset'"),
    ("evaluate {model} --dataset {data} --batch_size 0", "batch_size: expected .*, got 0"),
    ("evaluate {model} --dataset {data} --batch_size two", "--batch_size: expected .*int.*'two'"),
    ("evaluate {model} --dataset {data} --task vision", "--task: expected 'text', .*'vision'"),
    ("evaluate {model} --dataset {data} --batchsize 4", "--batchsize: expected .*did you mean --batch_size"),
    ("evaluate {model} --dataset {data} --loss reg", "--loss: expected an option of hf-mlcl evaluate"),
    ("evaluate {model} --dataset {data} --text_pair_column text", "--text_pair_column: expected none.*'text'"),
    ("evaluate {pairs} --dataset {data}", "--text_pair_column: expected the second text.* got none"),
    ("evaluate {image_model} --dataset {images} --split test", "splits: expected splits of .*train.*, got test"),
    ("evaluate {image_model} --dataset {data}", "image_column: "),
    ("evaluate {model} --dataset {images} --split train", "text_column: "),
    ("evaluate {model} --dataset {data} --max_length 0", "max_length: expected .*, got 0"),
    ("predict", "model: expected a value, got none"),
    ("predict {model}", "--text: expected one of --text --image --file, got none"),
    ("predict {model} --text a --image b", "--image: expected none beside --text, got both"),
    ("predict {model} --txt a", "--txt: expected .*did you mean --text"),
    ("predict {model} --image a.png", "--image: expected --text or --file for a text model, got --image"),
    ("predict {image_model} --text a", "--text: expected --image or --file for a vision model, got --text"),
    ("predict {image_model} --image {root}/none.png", "--image: expected an image file, found none"),
    ("predict {image_model} --image {a_file}", "--image: expected an image file, got .*a_file"),
    ("predict {image_model} --image {data}", "--image: expected an image file, got .*data"),
    ("predict {image_model} --file {a_file}", "--image|--file: expected an image file, found none at 'a file'"),
    ("predict {model} --file {root}/none.txt", "--file: expected a file, found none"),
    ("predict {model} --file {data}", "--file: expected a file, found none"),
    ("predict {model} --file {data}/test.csv", "--column: expected one of text, labels, got None"),
    ("predict {model} --file {data}/test.csv --column txt", "--column: expected one of text, labels, got 'txt'"),
    ("predict {model} --file {encoder}/model.safetensors", "--file: expected .*UTF-8"),
    ("predict {model} --text a --top_k 0", "top_k: expected .*, got 0"),
    ("predict {model} --text a --top_k two", "--top_k: expected .*int.*'two'"),
    ("predict {model} --text a --min_labels 4", "min_labels: expected an integer of 0 to 3, got 4"),
    ("predict {model} --text a --min_labels 2 --top_k 1", "top_k: expected an integer of at least 2, got 1"),
    ("predict {model} --text a --threshold high", "--threshold: expected .*float.*'high'"),
    ("predict {model} --text a --threshold nan", "threshold: expected .*, got nan"),
    ("predict {model} --text a --threshold 50", "threshold: expected .*, got 50"),
    ("predict {model} --text a --text_pair b", "--text_pair: expected none.*'b'"),
    ("predict {pairs} --text a", "--text_pair: expected the second text.* got none"),
    ("predict {pairs} --file {a_file} --text_pair b", "--text_pair: expected beside --text"),
    ("predict {pairs} --file {a_file} --pair_column b", "--pair_column: expected a csv, json or parquet file"),
    ("inspect {model}", "--dataset: expected a value, got none"),
    ("inspect {model} --dataset {data} --batch_size 0", "--batch_size: expected at least 1, got 0"),
    ("inspect {model} --dataset {data} --neighbours 0", "--neighbours: expected at least 1, got 0"),
    ("inspect {model} --dataset {data} --seed -1", "--seed: expected at least 0 .*, got -1"),
    ("inspect {model} --dataset {data} --seed 99999999999", "--seed: expected at least 0 .*, got 99999999999"),
    ("inspect {model} --dataset {data} --output {a_file}", "--output: expected a folder, got .*a_file"),
    ("inspect {model} --dataset {data} --neighbors 3", "--neighbors: expected .*did you mean --neighbours"),
    ("inspect {model} --dataset {root}/none", "dataset: expected a file or folder, found none at .*none"),
    ("inspect {unfitted} --dataset {data}", "model: expected a fitted classifier, got none"),
    ("app {root}/none --space {root}/space", "model: expected a folder to make a Space of, got .*none"),
    ("app {unfitted} --space {root}/space", "model: expected a fitted classifier, got none in .*unfitted"),
    ("app {model} --space {a_file}", "--space: expected a folder, got .*a_file"),
    ("app {model} --task vision --space {root}/space", "--task: expected 'text', .*'vision'"),
    ("app {model} --dataset {root}/none --space {root}/space", "dataset: expected a file or folder, found none at"),
    ("app {model} --port 80", "--port: expected an option of hf-mlcl app"),
    ("push {model} a/b/c", "repo_id: expected user/name, got 'a/b/c'"),
    ("export", "model: expected a value, got none"),
    ("export {root}/none", "model: expected the folder or Hub id of a model trained with hf-mlcl, got .*none"),
    ("export {encoder}", "model: expected .*hf-mlcl, got .*a model of type 'bert'"),
    ("export {unfitted}", "model: expected a fitted classifier, got none in .*unfitted"),
    ("export {model} --format onxn", "--format: expected one of onnx, got 'onxn' .did you mean 'onnx'"),
    ("export {model} --quantize int4", "--quantize: expected one of int8, got 'int4'"),
    ("export {model} --output_dir {a_file}", "--output_dir: expected a folder, got .*a_file"),
    (
        "export {image_model} --quantize int8 --output_dir {root}/onnx",
        "quantize: expected an encoder of .*got 'resnet'",
    ),
]

MISSING = list(REQUIRED)


def filled(words, world):
    return [word.format_map(vars(world)) for word in words]


@pytest.mark.parametrize(("more", "message"), TRAIN_CASES, ids=[more for more, _ in TRAIN_CASES])
def test_train_names_the_wrong_flag(more, message, world, command_fails):
    command_fails(["train", *filled([*TRAIN, *more.split()], world)], message)


@pytest.mark.parametrize(("command", "message"), COMMAND_CASES, ids=[command for command, _ in COMMAND_CASES])
def test_a_command_names_the_wrong_argument(command, message, world, command_fails):
    command_fails(filled(command.split(), world), message)


@pytest.mark.parametrize("name", MISSING)
def test_train_names_the_flag_that_is_missing(name, world, command_fails):
    kept = [part for flag, value in REQUIRED.items() if flag != name for part in (f"--{flag}", value)]
    command_fails(["train", *filled([*kept, *QUIET], world)], f"--{name}: expected .* got none")


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


def edits(first, second):
    """Letters to drop, add, change, or swap with their neighbour between two words (optimal string alignment)."""
    first, second = first.replace("-", "_"), second.replace("-", "_")
    rows = [list(range(len(second) + 1))]
    for i, a in enumerate(first, 1):
        row = [i]
        for j, b in enumerate(second, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and first[i - 2 : i] == b + second[j - 2]:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


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
        assert suggestion(line) == flag or edits(wrong, suggestion(line)) == 1, (wrong, line)

    check()


def test_every_flag_of_train_is_found_from_a_misspelling(world):
    for number, flag in enumerate(COMMAND_FLAGS["train"]):
        wrong = misspelt(flag, number, ("drop", "double", "swap")[number % 3])
        if wrong not in COMMAND_FLAGS["train"]:
            nearest = suggestion(TRAIN_PARSER.unknown(wrong))
            assert nearest == flag or edits(wrong, nearest) == 1, (wrong, nearest)
