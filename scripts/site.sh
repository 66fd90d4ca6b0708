#!/usr/bin/env bash
# Builds the documentation into build/site: offline, with the command reference; a broken link ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
NO_MKDOCS_2_WARNING=1 mkdocs build --strict -f docs/mkdocs.yml
echo "site: build/site/index.html"
