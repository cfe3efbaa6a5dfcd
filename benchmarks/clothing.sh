#!/usr/bin/env bash
# Vision: clothing (items and colours worn on a photograph) with an ImageNet MobileNetV2, under one protocol.
#
#   bash benchmarks/clothing.sh DATASET ENCODER OUTPUT [NAME...]
#
# NAME is a loss, or `frozen` for the encoder as it is; with `-224` behind it images have 224 pixels instead of 128.
# `reg-strong` is what earlier versions recommended: five times the rate, RandAugment, batch statistics trained.
# DATASET is a folder with train, validation and test splits of images; ENCODER the folder or Hub id of
# mobilenet_v2_1.0_224. `python benchmarks/table.py OUTPUT` prints the table.
set -euo pipefail
dataset=$1 encoder=$2 output=$3
shift 3
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(frozen reg frozen-224 reg-224)

for name in "${names[@]}"; do
    folder="$output/clothing-$name"
    size=128 loss="${name%-224}"
    training=(--num_train_epochs 4 --freeze_batch_norm true --learning_rate 1e-4 --head_learning_rate 1e-4 --per_device_train_batch_size 32)
    case "$name" in *-224) size=224 ;; esac
    case "$loss" in
    frozen) loss=reg training=(--num_train_epochs 0) ;;
    reg-strong)
        loss=reg
        training=(--num_train_epochs 6 --augmentation randaugment --learning_rate 5e-4 --head_learning_rate 5e-4 --per_device_train_batch_size 64)
        ;;
    esac
    if [ -f "$folder/metrics.json" ]; then continue; fi
    resume=()
    if compgen -G "$folder/checkpoint-*" >/dev/null; then resume=(--resume_from_checkpoint true); fi
    hf-mlcl train --task vision --dataset "$dataset" --encoder "$encoder" --output_dir "$folder" --loss "$loss" \
        --image_size "$size" "${training[@]}" --save_strategy epoch --save_total_limit 1 --use_cpu --logging_steps 10 \
        ${resume[@]+"${resume[@]}"}
done
