#!/usr/bin/env bash
# Label-aware batches against random ones on reuters21578, three seeds, `reg`, 2,000 training texts, batches of 32.
#
#   bash benchmarks/label_aware_batches.sh DATASET ENCODER OUTPUT [SEED...]
#
# DATASET is a folder with train, validation and test splits of reuters21578 (ModApte, 90 labels); ENCODER the folder or
# Hub id of all-MiniLM-L6-v2. Runs on a CPU; a finished run is not repeated. LOSSES in the environment names
# other losses, such as `supcon_any`, which has no prototypes: an example without a positive is then no anchor.
# `python benchmarks/table.py OUTPUT` prints the table.
set -euo pipefail
dataset=$1 encoder=$2 output=$3
shift 3
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || seeds=(1 2 3)

for seed in "${seeds[@]}"; do
    for loss in ${LOSSES:-reg}; do
        for aware in false true; do
            folder="$output/reuters21578-$loss-aware-$aware-$seed"
            if [ -f "$folder/metrics.json" ]; then continue; fi
            hf-mlcl train --task text --dataset "$dataset" --encoder "$encoder" --output_dir "$folder" --loss "$loss" \
                --label_aware_batches "$aware" --seed "$seed" --max_train_samples 2000 --max_length 48 \
                --num_train_epochs 2 --per_device_train_batch_size 32 --head_learning_rate 5e-5 --use_cpu --save_strategy no --logging_steps 20
        done
    done
done
