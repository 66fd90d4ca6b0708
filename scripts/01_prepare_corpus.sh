#!/usr/bin/env bash
# Stage 1: a dataset by name, to corpus.jsonl, queries.jsonl and qrels in BEIR's form.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars ingest --dataset "$DATASET" --output "$RUN/corpus.jsonl" "$@"
