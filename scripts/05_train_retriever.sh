#!/usr/bin/env bash
# Stage 5: fine-tune a bi-encoder on the triples.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
MODEL=${MODEL:-minilm}                       # any sentence-transformers or plain encoder checkpoint
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars train retriever --triples "$RUN/triples.tsv" --dataset "$DATASET" --model "$MODEL" --output "$RUN/models/retriever" "$@"
