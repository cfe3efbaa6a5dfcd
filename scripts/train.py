"""`hf-mlcl train` on several processes: `accelerate launch scripts/train.py ...` or with `torchrun`."""

import sys

import torch

from hf_mlcl.cli import run_command
from hf_mlcl.cli.train import run

if __name__ == "__main__":
    run_command(run, sys.argv[1:])
    # Left to the end of the interpreter, the group's threads now and then abort a process whose work is done.
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
