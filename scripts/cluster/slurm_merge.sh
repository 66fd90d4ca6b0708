#!/usr/bin/env bash
# Puts the shards of an output together: slurm_submit.sh has it wait for the array. It needs no GPU and little memory.
#SBATCH --job-name=inpars-merge
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=02:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail
cd "${INPARS_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}"
command -v inpars >/dev/null || source scripts/setup.sh "${EXTRAS:-train,embedded,remote}"
exec inpars merge "$@"
