#!/usr/bin/env bash
# Submits a command as an array of shards, and the merging that waits for all of them:
#   SHARDS=64 bash scripts/cluster/slurm_submit.sh generate --corpus corpus.jsonl --output run/queries.jsonl
# SBATCH_FLAGS go to both jobs (--partition=gpu --account=...), ARRAY_FLAGS to the array alone (--gpus-per-task=2).
set -euo pipefail
SHARDS=${SHARDS:-8}
SBATCH_FLAGS=${SBATCH_FLAGS:-}
ARRAY_FLAGS=${ARRAY_FLAGS:-}
here=$(dirname "${BASH_SOURCE[0]}")
output=
for ((place = 1; place <= $#; place++)); do
  case ${!place} in
    --output=*) output=${!place#--output=} ;;
    --output) next=$((place + 1)) && output=${!next:-} ;;
  esac
done
[ -n "$output" ] || { echo "slurm_submit: give the command with its --output" >&2; exit 2; }
export SHARDS
# shellcheck disable=SC2086 # flags are words
array=$(sbatch --parsable --array="1-$SHARDS" $SBATCH_FLAGS $ARRAY_FLAGS "$here/slurm_array.sh" "$@")
# shellcheck disable=SC2086
merge=$(sbatch --parsable --dependency="afterok:${array%%;*}" $SBATCH_FLAGS "$here/slurm_merge.sh" --output "$output")
echo "array ${array%%;*} of $SHARDS shards, then merge ${merge%%;*} to $output"
