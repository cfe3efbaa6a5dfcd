#!/usr/bin/env bash
# Vision: clothing (items and colours worn on a photograph) with an ImageNet MobileNetV2, under one protocol.
#
#   bash benchmarks/clothing.sh DATASET ENCODER OUTPUT [NAME...]
#
# DATASET is a folder with train, validation and test splits of images; ENCODER the folder or Hub id of
# mobilenet_v2_1.0_224. `python benchmarks/table.py OUTPUT` prints the table.
set -euo pipefail
dataset=$1 encoder=$2 output=$3
shift 3
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(reg zlpr)

for name in "${names[@]}"; do
    folder="$output/clothing-$name"
    if [ -f "$folder/metrics.json" ]; then continue; fi
    hf-mlcl train --task vision --dataset "$dataset" --encoder "$encoder" --output_dir "$folder" --loss "$name" \
        --image_size 128 --augmentation randaugment --learning_rate 5e-4 --num_train_epochs 6 \
        --per_device_train_batch_size 64 --save_strategy no --use_cpu --logging_steps 10
done
