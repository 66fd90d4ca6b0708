#!/usr/bin/env bash
# GenQ (BEIR, Thakur et al., 2021): a T5 writes five queries a passage for at most 100,000, and TAS-B is tuned on the
# pairs with the other passages of the batch as negatives; one epoch.
#   DATASET=beir/scifact/test bash scripts/reproduce/genq.sh
# Network and a GPU of 16 GB or more; minutes to hours each.
DATASET=${DATASET:-beir/scifact/test}       # also beir/nfcorpus/test, beir/fiqa/test, beir/scidocs, beir/arguana, ...
BASE=${BASE:-sentence-transformers/msmarco-distilbert-base-tas-b}
OUT=${OUT:-runs/reproduce/genq/${DATASET//\//-}}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train
inpars generate --dataset "$DATASET" --backend seq2seq --model BeIR/query-gen-msmarco-t5-base-v1 --num-queries 5 \
  --max-documents 100000 --temperature 1 --top-p 0.95 --seed 1 --output "$OUT/queries.synthetic.jsonl"
inpars triples --input "$OUT/queries.synthetic.jsonl" --dataset "$DATASET" --negatives random --per-query 1 --seed 1 \
  --output "$OUT/triples.tsv"
inpars train retriever --triples "$OUT/triples.tsv" --model "$BASE" --loss mnrl --no-negatives --epochs 1 \
  --batch-size 75 --learning-rate 2e-5 --max-length 350 --output "$OUT/retriever"
inpars search --dataset "$DATASET" --retriever "$BASE" --k 1000 --output "$OUT/run.base.trec"
inpars search --dataset "$DATASET" --retriever "$OUT/retriever" --k 1000 --output "$OUT/run.tuned.trec"
inpars evaluate --dataset "$DATASET" --run "$OUT/run.base.trec" --run "$OUT/run.tuned.trec" --output "$OUT/metrics.json"
python scripts/reproduce/check.py --experiment genq --folder "$(dirname "$OUT")"
