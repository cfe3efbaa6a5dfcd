"""`hf-mlcl train` on several processes: `accelerate launch scripts/train.py ...` or with `torchrun`."""

import sys

from hf_mlcl.cli import run_command
from hf_mlcl.cli.train import run

if __name__ == "__main__":
    run_command(run, sys.argv[1:])
