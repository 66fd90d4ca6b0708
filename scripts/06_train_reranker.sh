#!/usr/bin/env bash
# Stage 6: fine-tune a reranker on the triples; its kind follows from the checkpoint.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
MODEL=${MODEL:-smollm2-135m}                 # a T5 (monoT5), a BERT (cross-encoder) or a causal language model
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars train reranker --triples "$RUN/triples.tsv" --dataset "$DATASET" --model "$MODEL" --output "$RUN/models/reranker" "$@"
