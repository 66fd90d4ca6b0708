#!/usr/bin/env bash
# GenQ, part 2: the pairs of query and paragraph train a bi-encoder, with the other paragraphs of a batch as negatives
# (multiple negatives ranking loss). Pairs whose query does not lead BM25 to its paragraph are left out.
RUN=${RUN:-runs/genq}                        # where this experiment lives
RETRIEVER=${RETRIEVER:-minilm}               # bi-encoder to start from
TOP_K=${TOP_K:-100000}                       # the likeliest so many queries are kept; GenQ keeps all
POSITIVE_WITHIN=${POSITIVE_WITHIN:-10}       # BM25 ranks among which the own paragraph has to be
EPOCHS=${EPOCHS:-1}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train,embedded,documents
inpars filter --input "$RUN/queries.synthetic.jsonl" --corpus "$RUN/corpus.jsonl" --top-k "$TOP_K" \
  --output "$RUN/queries.filtered.jsonl"
inpars triples --input "$RUN/queries.filtered.jsonl" --corpus "$RUN/corpus.jsonl" --positive-within "$POSITIVE_WITHIN" \
  --output "$RUN/triples.tsv"
inpars train retriever --triples "$RUN/triples.tsv" --model "$RETRIEVER" --no-negatives --epochs "$EPOCHS" \
  --output "$RUN/models/retriever" "$@"
