#!/usr/bin/env bash
# Stage 4: BM25 negatives, to triples of ids and of texts.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
RANKS=${RANKS:-1-100}                        # BM25 ranks that negatives are drawn from
PER_QUERY=${PER_QUERY:-1}                    # negatives a query
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars triples --input "$RUN/queries.filtered.jsonl" --dataset "$DATASET" --ranks "$RANKS" --per-query "$PER_QUERY" \
  --output "$RUN/triples.tsv" "$@"
