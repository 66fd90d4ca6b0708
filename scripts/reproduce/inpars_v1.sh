#!/usr/bin/env bash
# InPars (arXiv 2202.05144): 100,000 passages, the fixed prompt of three MS MARCO examples, 10,000 queries by mean
# log-probability, a BM25 negative each, monoT5 of 156 steps from a T5 that has seen no MS MARCO; BM25's 1,000 reranked.
#   DATASET=beir/trec-covid bash scripts/reproduce/inpars_v1.sh
# Network and a GPU of 48 GB or more; about a day each with GPT-J. The paper's GPT-3 Curie is no longer served: GPT-J
# writes instead, so expect the neighbourhood of its numbers, not the numbers.
DATASET=${DATASET:-beir/trec-covid}         # also msmarco-passage/dev/small, msmarco-passage/trec-dl-2020/judged, beir/nq
GENERATOR=${GENERATOR:-EleutherAI/gpt-j-6B}
RERANKER=${RERANKER:-t5-3b}                 # t5-base is the paper's monoT5-220M
PROMPT=${PROMPT:-inpars}                    # inpars-gbq away from MS MARCO
OUT=${OUT:-runs/reproduce/inpars-v1/${DATASET//\//-}}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train,bm25
inpars generate --dataset "$DATASET" --prompt "$PROMPT" --model "$GENERATOR" --max-documents 100000 \
  --min-doc-characters 300 --max-new-tokens 64 --seed 1 --output "$OUT/queries.synthetic.jsonl"
inpars filter --input "$OUT/queries.synthetic.jsonl" --scoring-function mean_log_probs --top-k 10000 \
  --output "$OUT/queries.filtered.jsonl"
inpars triples --input "$OUT/queries.filtered.jsonl" --dataset "$DATASET" --ranks 1-1000 --per-query 1 --seed 1 \
  --output "$OUT/triples.tsv"
inpars train reranker --triples "$OUT/triples.tsv" --recipe inpars --model "$RERANKER" --kind monot5 \
  --output "$OUT/reranker"
inpars search --dataset "$DATASET" --retriever bm25 --k 1000 --output "$OUT/run.bm25.trec"
inpars rerank --dataset "$DATASET" --run "$OUT/run.bm25.trec" --model "$OUT/reranker" --kind monot5 --depth 1000 \
  --output "$OUT/run.reranked.trec"
inpars evaluate --dataset "$DATASET" --run "$OUT/run.bm25.trec" --run "$OUT/run.reranked.trec" \
  --output "$OUT/metrics.json"
python scripts/reproduce/check.py --experiment inpars-v1 --folder "$(dirname "$OUT")"
