#!/usr/bin/env bash
# GPL (arXiv 2112.07577): a T5 writes queries, dense negatives are mined, a cross-encoder scores the pairs, and a
# bi-encoder learns their margins (MarginMSE); 140,000 steps of 32.
#   DATASET=beir/fiqa/test bash scripts/reproduce/gpl.sh
# Network and a GPU of 16 GB or more; about ten hours each.
DATASET=${DATASET:-beir/fiqa/test}          # also beir/scifact/test
QUERIES=${QUERIES:-3}                       # a passage; GPL takes as many as make 250,000: 50 for scifact
BASE=${BASE:-GPL/msmarco-distilbert-margin-mse}
MINER=${MINER:-sentence-transformers/msmarco-MiniLM-L-6-v3}
TEACHER=${TEACHER:-cross-encoder/ms-marco-MiniLM-L-6-v2}
OUT=${OUT:-runs/reproduce/gpl/${DATASET//\//-}}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train
inpars generate --dataset "$DATASET" --backend seq2seq --model BeIR/query-gen-msmarco-t5-base-v1 \
  --num-queries "$QUERIES" --temperature 1 --top-p 0.95 --seed 1 --output "$OUT/queries.synthetic.jsonl"
inpars triples --input "$OUT/queries.synthetic.jsonl" --dataset "$DATASET" --negatives dense --retriever "$MINER" \
  --ranks 1-50 --per-query 50 --rescore "$TEACHER" --rescore-candidates 50 --seed 1 --output "$OUT/triples.tsv"
inpars train retriever --triples "$OUT/triples.tsv" --model "$BASE" --loss margin-mse --margin-scale 1 \
  --max-steps 140000 --batch-size 32 --learning-rate 2e-5 --max-length 350 --output "$OUT/retriever"
inpars search --dataset "$DATASET" --retriever "$BASE" --k 1000 --output "$OUT/run.base.trec"
inpars search --dataset "$DATASET" --retriever "$OUT/retriever" --k 1000 --output "$OUT/run.tuned.trec"
inpars evaluate --dataset "$DATASET" --run "$OUT/run.base.trec" --run "$OUT/run.tuned.trec" --output "$OUT/metrics.json"
python scripts/reproduce/check.py --experiment gpl --folder "$(dirname "$OUT")"
