#!/usr/bin/env bash
# Stage 3: keep the queries that the model itself finds likely.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
SCORE=${SCORE:-mean_log_probs}               # sum_log_probs, mean_log_probs or mean_probs
TOP_K=${TOP_K:-300}                          # how many to keep
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars filter --input "$RUN/queries.synthetic.jsonl" --dataset "$DATASET" --scoring-function "$SCORE" --top-k "$TOP_K" \
  --output "$RUN/queries.filtered.jsonl" "$@"
