#!/usr/bin/env bash
# What CI checks before the tests: format, lint, types, shell syntax. `bash scripts/check.sh --fix` mends what it can.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,openvino,embedded,api,documents,index,serve,remote,test
if [ "${1:-}" = --fix ]; then
  ruff check --fix .
  ruff format .
fi
ruff check .
ruff format --check .
mypy
for script in scripts/*.sh scripts/genq/*.sh download_data.sh .ci/run; do bash -n "$script"; done
if git grep -nIE -f scripts/phrases.txt -- README.md CONTRIBUTING.md docs prompts scripts/README.md inpars; then
  echo "check: the lines above have phrases of scripts/phrases.txt; say it as docs/glossary.md and CONTRIBUTING.md do" >&2
  exit 1
fi
echo "check: all good"
