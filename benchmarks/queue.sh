#!/usr/bin/env bash
# What a memory queue gains at a batch of 32 on reuters21578: three seeds, `msc`, 2,000 training texts; plain, with a
# queue of 512 keys, and with a queue of keys from a momentum encoder.
#
#   bash benchmarks/queue.sh DATASET ENCODER OUTPUT [SEED...]
#
# DATASET is a folder with train, validation and test splits of reuters21578 (ModApte, 90 labels); ENCODER the folder or
# Hub id of all-MiniLM-L6-v2. Runs on a CPU; a finished run is not repeated. LOSSES in the environment names other losses.
# `python benchmarks/table.py OUTPUT` prints the table.
set -euo pipefail
dataset=$1 encoder=$2 output=$3
shift 3
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || seeds=(1 2 3)
declare -A memories=([plain]="" [queue]="--queue_size 512" [momentum]="--queue_size 512 --momentum 0.99")

for seed in "${seeds[@]}"; do
    for loss in ${LOSSES:-msc}; do
        for memory in plain queue momentum; do
            folder="$output/reuters21578-$loss-$memory-$seed"
            if [ -f "$folder/metrics.json" ]; then continue; fi
            # shellcheck disable=SC2086
            hf-mlcl train --task text --dataset "$dataset" --encoder "$encoder" --output_dir "$folder" --loss "$loss" \
                ${memories[$memory]} --seed "$seed" --max_train_samples 2000 --max_length 48 --num_train_epochs 2 \
                --per_device_train_batch_size 32 --head_learning_rate 5e-5 --use_cpu --save_strategy no --logging_steps 20
        done
    done
done
