#!/usr/bin/env bash
# Stage 9: measure every run of this experiment and test the differences.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
METRICS=${METRICS:-nDCG@10 RR@10 R@100}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
runs=()
for run in "$RUN"/run.bm25.trec "$RUN"/run.tuned.trec "$RUN"/run.reranked.trec; do
  if [ -e "$run" ]; then runs+=(--run "$run"); fi
done
inpars evaluate --dataset "$DATASET" ${runs[@]+"${runs[@]}"} --metrics "$METRICS" --output "$RUN/metrics.json" "$@"
