#!/usr/bin/env bash
# build-go-tool.sh DIR PACKAGE@VERSION: leaves the one program in DIR.
set -euo pipefail
dir=$1 package=$2
# `local`: the toolchain found is the one that builds; none is downloaded behind our back.
export CGO_ENABLED=0 GOTOOLCHAIN=local GOBIN=$dir GOFLAGS=-buildvcs=false
go install -trimpath -ldflags='-s -w' "$package"
