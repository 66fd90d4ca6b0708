#!/usr/bin/env bash
# Stage 7: first-stage runs for the test queries: BM25, and the tuned bi-encoder where there is one.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
K=${K:-1000}                                 # documents per query
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars search --dataset "$DATASET" --retriever bm25 --k "$K" --output "$RUN/run.bm25.trec" "$@"
if [ -d "$RUN/models/retriever" ]; then
  inpars search --dataset "$DATASET" --retriever "$RUN/models/retriever" --k "$K" --output "$RUN/run.tuned.trec" "$@"
fi
