#!/usr/bin/env bash
# One task of a SLURM array does one shard of any command that has --shard (generate, score, rerank):
#   sbatch --array=1-64 scripts/cluster/slurm_array.sh generate --corpus corpus.jsonl --output run/queries.jsonl
# slurm_submit.sh submits this and the merging behind it. A task that is killed or requeued goes on where it stopped. To
# run some shards again, say how many there are, because the array's own count is then that of the ones run again:
#   SHARDS=64 sbatch --array=3,17 scripts/cluster/slurm_array.sh generate ... (the same flags)
# Without SLURM: SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_COUNT=64 bash scripts/cluster/slurm_array.sh generate ...
#SBATCH --job-name=inpars
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%A_%a.log
set -euo pipefail
: "${SLURM_ARRAY_TASK_ID:?is set by sbatch --array=1-N; set it by hand to run without SLURM}"
count=${SHARDS:-${SLURM_ARRAY_TASK_COUNT:?is set by sbatch --array=1-N; set it by hand to run without SLURM}}
# SLURM copies this file elsewhere: the checkout is where the job was submitted from, or INPARS_HOME.
cd "${INPARS_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}"
command -v inpars >/dev/null || source scripts/setup.sh "${EXTRAS:-train,embedded,remote}"
exec inpars "$@" --shard "$SLURM_ARRAY_TASK_ID/$count"
