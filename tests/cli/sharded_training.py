"""Run by torchrun: `scripts/train.py` under FSDP2 on a CPU, its checkpoints in shards."""

import os
import sys

import torch
from sharded_job import FSDP2, shard_on_cpu

from hf_mlcl.cli import run_command
from hf_mlcl.cli.train import run

if __name__ == "__main__":
    os.environ.update(FSDP2 | {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"})
    shard_on_cpu()
    run_command(run, sys.argv[1:])
    torch.distributed.destroy_process_group()
