#!/usr/bin/env bash
# GenQ, part 3: the bi-encoder before and after, measured by people's questions where the documents came with some
# (SQuAD's json), and a search with both.
#   QUERY="what is duck typing" bash scripts/genq/3_evaluate_and_search.sh
RUN=${RUN:-runs/genq}                        # where this experiment lives
RETRIEVER=${RETRIEVER:-minilm}               # the bi-encoder that was started from
METRICS=${METRICS:-RR@10 nDCG@10 R@10}
QUERY=${QUERY:-}                             # something to search for
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train,embedded,documents
if [ -e "$RUN/queries.jsonl" ]; then
  inpars search --dataset "$RUN" --retriever "$RETRIEVER" --k 100 --output "$RUN/run.base.trec"
  inpars search --dataset "$RUN" --retriever "$RUN/models/retriever" --k 100 --output "$RUN/run.tuned.trec"
  inpars search --dataset "$RUN" --retriever bm25 --k 100 --output "$RUN/run.bm25.trec"
  inpars evaluate --dataset "$RUN" --run "$RUN/run.base.trec" --run "$RUN/run.tuned.trec" --run "$RUN/run.bm25.trec" \
    --metrics "$METRICS" --output "$RUN/metrics.json" "$@"
fi
if [ -n "$QUERY" ]; then
  for retriever in "$RETRIEVER" "$RUN/models/retriever"; do
    echo "$retriever:"
    inpars search --interactive --corpus "$RUN/corpus.jsonl" --retriever "$retriever" --k 3 <<<"$QUERY"
  done
fi
