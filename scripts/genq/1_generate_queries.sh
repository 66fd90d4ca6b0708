#!/usr/bin/env bash
# GenQ, part 1: paragraphs in, and for each of a sample three queries that a model writes, no labels needed.
#   DOCUMENTS=my/folder bash scripts/genq/1_generate_queries.sh      PDF, web pages, Markdown, Word, tables, SQuAD's json
# A T5 that was made for it (doc2query, GenQ) is named with BACKEND=seq2seq MODEL=BeIR/query-gen-msmarco-t5-base-v1; where
# no hub can be reached, the embedded language model writes.
DOCUMENTS=${DOCUMENTS:?set DOCUMENTS to a folder, or to a file such as SQuAD\'s dev-v2.0.json}
RUN=${RUN:-runs/genq}                        # where this experiment lives
BACKEND=${BACKEND:-causal}                   # or seq2seq
MODEL=${MODEL:-smollm2-135m}                 # embedded name, folder or hub id
PARAGRAPHS=${PARAGRAPHS:-600}                # how many to write for, drawn uniformly
QUERIES=${QUERIES:-3}                        # queries a paragraph
MAX_TOKENS=${MAX_TOKENS:-200}                # of a paragraph; longer ones are cut between sentences
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train,embedded,documents
prompt=()
if [ "$BACKEND" = causal ]; then prompt=(--prompt "${PROMPT:-inpars-gbq}" --temperature 0.7); fi
inpars ingest --documents "$DOCUMENTS" --max-tokens "$MAX_TOKENS" --output "$RUN/corpus.jsonl"
inpars generate --corpus "$RUN/corpus.jsonl" --backend "$BACKEND" --model "$MODEL" ${prompt[@]+"${prompt[@]}"} \
  --num-queries "$QUERIES" --max-documents "$PARAGRAPHS" --max-new-tokens 32 --output "$RUN/queries.synthetic.jsonl" "$@"
