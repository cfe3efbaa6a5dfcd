"""The files of scripts/accelerate: accelerate reads each, and it becomes the launch that its name says."""

from pathlib import Path

import pytest
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "scripts" / "accelerate").glob("*.yaml"))
# Name -> what accelerate calls it, processes, machines, and some of the environment that it gives them.
EXPECTED = {
    "single_gpu": ("NO", 1, 1, {}),
    "multi_gpu": ("MULTI_GPU", 8, 1, {}),
    "multi_node": ("MULTI_GPU", 16, 2, {}),
    "fsdp2": ("FSDP", 8, 1, {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}),
    "deepspeed_zero2": ("DEEPSPEED", 8, 1, {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}),
    "deepspeed_zero3": ("DEEPSPEED", 8, 1, {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}),
}


@pytest.fixture
def dry_run(monkeypatch):
    """`accelerate launch` up to the point where it would start processes: the command's arguments and environment."""
    taken = {}
    for launcher in ("simple_launcher", "multi_gpu_launcher", "deepspeed_launcher"):
        monkeypatch.setattr(launch, launcher, lambda args, name=launcher: taken.update(launcher=name, args=args))

    def run(file):
        command = ["--config_file", str(file), "scripts/train.py", "--task", "text"]
        launch.launch_command(launch.launch_command_parser().parse_args(command))
        args, launcher = taken["args"], taken["launcher"]
        environment = {
            "simple_launcher": lambda: prepare_simple_launcher_cmd_env(args)[1],
            "multi_gpu_launcher": lambda: prepare_multi_gpu_env(args),
            "deepspeed_launcher": lambda: prepare_deepspeed_cmd_env(args)[1],
        }
        return args, launcher, environment[launcher]()

    return run


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in FILES])
def test_a_file_becomes_the_launch_it_names(file, dry_run):
    kind, processes, machines, expected = EXPECTED[file.stem]
    config = load_config_from_file(str(file))
    found = (config.distributed_type.value, config.num_processes, config.num_machines, config.mixed_precision)
    assert found == (kind, processes, machines, "bf16")
    args, launcher, environment = dry_run(file)
    named = {"NO": "simple_launcher", "MULTI_GPU": "multi_gpu_launcher", "FSDP": "multi_gpu_launcher"}
    assert launcher == named.get(kind, "deepspeed_launcher")
    assert args.training_script == "scripts/train.py" and args.training_script_args == ["--task", "text"]
    assert environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert {name: environment.get(name) for name in expected} == expected
    if kind in ("MULTI_GPU", "FSDP"):
        # On one machine accelerate leaves the number of machines to torchrun's default, 1.
        assert (int(args.nproc_per_node), int(getattr(args, "nnodes", 1))) == (processes // machines, machines)
