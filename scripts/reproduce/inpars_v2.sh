#!/usr/bin/env bash
# InPars-v2 (arXiv 2301.01820): GPT-J writes for 100,000 documents, monoT5-3B trained on MS MARCO keeps the 10,000
# queries it scores best, and is tuned on them with a BM25 negative each; BM25's (flat) 1,000 reranked. One model a
# collection.
#   DATASET=beir/scifact/test bash scripts/reproduce/inpars_v2.sh
# Network and a GPU of 48 GB or more; about a day each with GPT-J.
DATASET=${DATASET:-beir/scifact/test}       # also beir/trec-covid, beir/nfcorpus/test, beir/fiqa/test, beir/fever/test, ...
GENERATOR=${GENERATOR:-EleutherAI/gpt-j-6B}
RERANKER=${RERANKER:-castorini/monot5-3b-msmarco-10k}
PROMPT=${PROMPT:-inpars}
OUT=${OUT:-runs/reproduce/inpars-v2/${DATASET//\//-}}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train,bm25
inpars generate --dataset "$DATASET" --prompt "$PROMPT" --model "$GENERATOR" --max-documents 100000 \
  --min-doc-characters 300 --max-new-tokens 64 --seed 1 --output "$OUT/queries.synthetic.jsonl"
inpars score --kind reranker --input "$OUT/queries.synthetic.jsonl" --dataset "$DATASET" --model "$RERANKER" \
  --output "$OUT/scores.jsonl"
inpars filter --input "$OUT/queries.synthetic.jsonl" --scores "$OUT/scores.jsonl" --scoring-function reranker \
  --top-k 10000 --output "$OUT/queries.filtered.jsonl"
inpars triples --input "$OUT/queries.filtered.jsonl" --dataset "$DATASET" --ranks 1-1000 --per-query 1 --seed 1 \
  --output "$OUT/triples.tsv"
inpars train reranker --triples "$OUT/triples.tsv" --recipe inpars --model "$RERANKER" --kind monot5 \
  --output "$OUT/reranker"
inpars search --dataset "$DATASET" --retriever bm25 --k 1000 --output "$OUT/run.bm25.trec"
inpars rerank --dataset "$DATASET" --run "$OUT/run.bm25.trec" --model "$OUT/reranker" --kind monot5 --depth 1000 \
  --output "$OUT/run.reranked.trec"
inpars evaluate --dataset "$DATASET" --run "$OUT/run.bm25.trec" --run "$OUT/run.reranked.trec" \
  --output "$OUT/metrics.json"
python scripts/reproduce/check.py --experiment inpars-v2 --folder "$(dirname "$OUT")"
