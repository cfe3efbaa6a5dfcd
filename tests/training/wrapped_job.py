"""One process under torchrun: `torchrun --nproc_per_node 1 wrapped_job.py FILE` writes the trained weights."""

import sys
import tempfile

import torch
from toy import toy_model, toy_trainer

with tempfile.TemporaryDirectory() as folder:
    steps = {"max_steps": 3, "gradient_accumulation_steps": 2}
    trainer = toy_trainer(folder, model=toy_model(dropout=0.0), gradient_cache_chunk_size=3, **steps)
    trainer.train()
    wrapped = isinstance(trainer.model_wrapped, torch.nn.parallel.DistributedDataParallel)
    torch.save({**trainer.core_model.state_dict(), "wrapped": wrapped}, sys.argv[1])
