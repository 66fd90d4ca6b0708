#!/usr/bin/env bash
# All tests that need neither network nor GPU, by two processes. Further arguments go to pytest:
# bash scripts/test.sh -m slow tests/unit; -n 0 for one process
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,openvino,embedded,api,documents,index,serve,remote,test
export HF_HUB_OFFLINE=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # for each of two processes: more would wait for one another's cores
unset PYTHONDONTWRITEBYTECODE  # a container may set it; every `inpars` that a test starts would be compiled again
exec python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
