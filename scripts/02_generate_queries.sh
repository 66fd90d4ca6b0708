#!/usr/bin/env bash
# Stage 2: a language model writes a query for each of a sample of documents.
DATASET=${DATASET:-python-docs}             # ir_datasets name, BEIR folder or zip, python-docs
RUN=${RUN:-runs/stages}                      # where this experiment lives
PROMPT=${PROMPT:-inpars}                     # a name from prompts/ or a path
MODEL=${MODEL:-smollm2-135m}                 # embedded name, folder or hub id
DOCUMENTS=${DOCUMENTS:-500}                  # how many documents, drawn uniformly
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,embedded
inpars generate --dataset "$DATASET" --prompt "$PROMPT" --model "$MODEL" --max-documents "$DOCUMENTS" \
  --output "$RUN/queries.synthetic.jsonl" "$@"
