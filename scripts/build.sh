#!/usr/bin/env bash
# Compiles to dist/. Incremental; the lock keeps two builds from writing over each other.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p dist
exec 8>.tools/build.lock
flock 8
.tools/node/bin/node node_modules/typescript/bin/tsc -p tsconfig.build.json 8>&-
