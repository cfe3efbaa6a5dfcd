#!/usr/bin/env bash
# The four models whose cards are in model_cards: what a user gets in minutes on a CPU, not the best that can be had.
#
#   bash benchmarks/model_cards.sh DATA OUTPUT [NAME...]
#
# DATA is a folder with the data sets reuters21578, goemotions, arxiv (texts) and clothing (photographs), each with train,
# validation and test splits. Encoders come from the Hub. A finished run is not repeated. The card is OUTPUT/NAME/README.md,
# its pictures are in OUTPUT/NAME/figures.
set -euo pipefail
data=$1 output=$2
shift 2
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(reuters21578 clothing goemotions arxiv)

# Loss, objective and prototypes are those of `hf-mlcl train` without flags for them.
text=(--task text --encoder sentence-transformers/all-MiniLM-L6-v2 --num_train_epochs 4 --max_length 64 --bf16
    --max_train_samples 4000)
for name in "${names[@]}"; do
    folder="$output/$name"
    flags=("${text[@]}")
    if [ "$name" = clothing ]; then
        flags=(--task vision --encoder google/mobilenet_v2_1.0_224 --num_train_epochs 4 --image_size 128
            --freeze_batch_norm true --learning_rate 1e-4)
    fi
    if [ -f "$folder/metrics.json" ]; then continue; fi
    resume=()
    if compgen -G "$folder/checkpoint-*" >/dev/null; then resume=(--resume_from_checkpoint true); fi
    hf-mlcl train --dataset "$data/$name" --output_dir "$folder" "${flags[@]}" --pictures --use_cpu \
        --save_strategy epoch --save_total_limit 1 --logging_steps 10 ${resume[@]+"${resume[@]}"}
done
