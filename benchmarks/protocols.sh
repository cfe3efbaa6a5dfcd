#!/usr/bin/env bash
# The two ways to fit the classifier, on the same encoder: `reg` on 2,000 training texts of reuters21578.
#
#   bash benchmarks/protocols.sh DATASET ENCODER OUTPUT
#
# Trains once and fits twice, from the last checkpoint. `python benchmarks/table.py OUTPUT` prints the table.
set -euo pipefail
dataset=$1 encoder=$2 output=$3
arguments=(--task text --dataset "$dataset" --encoder "$encoder" --loss reg --max_train_samples 2000 --max_length 64
    --num_train_epochs 4 --per_device_train_batch_size 64 --head_learning_rate 5e-5 --bf16 --use_cpu --save_strategy epoch --save_total_limit 1)

hf-mlcl train "${arguments[@]}" --output_dir "$output/logistic_regression"
mkdir -p "$output/study"
cp -r "$output"/logistic_regression/checkpoint-* "$output/study"
hf-mlcl train "${arguments[@]}" --output_dir "$output/study" --protocol study --resume_from_checkpoint true
