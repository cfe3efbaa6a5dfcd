#!/usr/bin/env bash
# reuters21578 under the protocol of Huang et al. (EMNLP 2021, arXiv 2109.04712), as far as a CPU allows it.
#
#   bash benchmarks/reuters21578_public.sh DATASET ENCODER OUTPUT [EPOCHS] [TOKENS]
#
# Theirs: ModApte with 90 labels, 7,769 texts of which 1,000 are held out for validation, 3,019 test texts, one threshold
# for all labels chosen by validation Micro-F1, BERT-base at 512 tokens, at most 40 epochs. Here the same texts and the
# same kind of threshold (`one_threshold`), nothing fitted on the validation texts but the classifier's strength; beside
# it the package's own way (`default`): thresholds for each label, classifier refitted on all 7,769. Trained once.
set -euo pipefail
dataset=$1 encoder=$2 output=$3 epochs=${4:-8} tokens=${5:-128}
mkdir -p "$output/data"
python - "$dataset" "$output/data" <<'END'
import sys
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

source, target = map(Path, sys.argv[1:])
# As tables of arrow, which keep the names of the labels.
read = {path.stem: parquet.read_table(path) for path in source.glob("*.parquet")}
parquet.write_table(pa.concat_tables([read["train"], read["validation"]]), target / "train.parquet")
parquet.write_table(read["test"], target / "test.parquet")
END
arguments=(--task text --dataset "$output/data" --encoder "$encoder" --validation_fraction 0.12872 --seed 1
    --max_length "$tokens" --num_train_epochs "$epochs" --bf16 --use_cpu --save_strategy epoch --save_total_limit 1)

hf-mlcl train "${arguments[@]}" --output_dir "$output/default"
mkdir -p "$output/one_threshold"
cp -r "$output"/default/checkpoint-* "$output/one_threshold"
hf-mlcl train "${arguments[@]}" --output_dir "$output/one_threshold" --thresholds micro --refit false \
    --resume_from_checkpoint true
