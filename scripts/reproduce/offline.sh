#!/usr/bin/env bash
# Published numbers that need neither a network nor a GPU: BM25 on nfcorpus and scifact, MiniLM, BM25's run of DL19.
#   DATA=/folder/of/collections bash scripts/reproduce/offline.sh        (minutes; MiniLM's encoding takes most of them)
# DATA holds beir/nfcorpus and beir/scifact as ir_datasets keeps them (ir_datasets/beir/NAME/source.zip) and msmarco-dl19.
DATA=${DATA:?set DATA to the folder that holds ir_datasets/ and msmarco-dl19/}
OUT=${OUT:-runs/reproduce/offline}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh" train,bm25,embedded
for name in nfcorpus scifact; do
  dataset="$DATA/ir_datasets/beir/$name/source.zip"
  inpars search --dataset "$dataset" --retriever bm25 --k 1000 --output "$OUT/$name/run.bm25.trec"
  inpars search --dataset "$dataset" --retriever minilm --dtype float32 --k 1000 --output "$OUT/$name/run.minilm.trec"
  inpars evaluate --dataset "$dataset" --preset beir --run "$OUT/$name/run.bm25.trec" \
    --run "$OUT/$name/run.minilm.trec" --output "$OUT/$name/metrics.json"
done
mkdir -p "$OUT/dl19"
inpars evaluate --qrels "$DATA/msmarco-dl19/qrels.dl19-passage.txt" --queries "$DATA/msmarco-dl19/queries.jsonl" \
  --preset dl19 --run "$DATA/msmarco-dl19/run.bm25.top100.trec" --bm25 "BM25 flat, k1 0.9, b 0.4" \
  --output "$OUT/dl19/metrics.json"
python scripts/reproduce/check.py --experiment offline --folder "$OUT"
