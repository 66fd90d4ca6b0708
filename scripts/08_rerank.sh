#!/usr/bin/env bash
# Stage 8: rerank the top of a run.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
MODEL=${MODEL:-$RUN/models/reranker}
DEPTH=${DEPTH:-50}                           # documents per query that are scored again
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars rerank --dataset "$DATASET" --run "$RUN/run.bm25.trec" --model "$MODEL" --depth "$DEPTH" \
  --output "$RUN/run.reranked.trec" "$@"
