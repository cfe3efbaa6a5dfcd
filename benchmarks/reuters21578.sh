#!/usr/bin/env bash
# Objectives on reuters21578 under one protocol: same encoder, epochs, classifier and thresholds.
#
#   bash benchmarks/reuters21578.sh DATASET ENCODER OUTPUT [NAME...]
#
# DATASET is a folder with train, validation and test splits of reuters21578 (ModApte, 90 labels); ENCODER the folder or
# Hub id of all-MiniLM-L6-v2. Runs on a CPU with bfloat16 autocast: `frozen` (the encoder as it is), `bce-high` (ten times
# the rate), `*-small-batch` (16 texts a batch: eight times the steps), `*-seed-N` (others have seed 42). A finished run is
# not repeated, an interrupted one goes on from its last checkpoint.
# `python benchmarks/table.py OUTPUT` prints the table.
set -euo pipefail
dataset=$1 encoder=$2 output=$3
shift 3
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(frozen bce bce-high bce-small-batch zlpr zlpr-small-batch reg reg-seed-1 \
    reg-small-batch joint)

for name in "${names[@]}"; do
    folder="$output/reuters21578-$name"
    seed=42 batch=128 epochs=4 rate=5e-5 loss="$name"
    case "$name" in *-seed-*) seed="${name##*-seed-}" loss="${loss%-seed-*}" ;; esac
    case "$loss" in *-small-batch) batch=16 loss="${loss%-small-batch}" ;; esac
    case "$loss" in
    frozen) objective=() epochs=0 ;;
    bce-high) objective=(--loss bce --learning_rate 5e-4) rate=5e-4 ;;
    joint) objective=(--objective joint --loss reg --classification_loss zlpr --classification_weight 0.3) ;;
    *) objective=(--loss "$loss") ;;
    esac
    if [ -f "$folder/metrics.json" ]; then continue; fi
    resume=()
    if compgen -G "$folder/checkpoint-*" >/dev/null; then resume=(--resume_from_checkpoint true); fi
    hf-mlcl train --task text --dataset "$dataset" --encoder "$encoder" --output_dir "$folder" \
        ${objective[@]+"${objective[@]}"} --seed "$seed" --max_length 80 --num_train_epochs "$epochs" \
        --per_device_train_batch_size "$batch" --head_learning_rate "$rate" --use_cpu --bf16 \
        --save_strategy epoch --save_total_limit 1 --logging_steps 20 ${resume[@]+"${resume[@]}"}
done
