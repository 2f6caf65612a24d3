#!/usr/bin/env bash
# Everything that can be checked without running the system. Runs all of it, then fails if anything failed.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=setup/versions.sh
. scripts/setup/versions.sh
# shellcheck source=setup/lib.sh
. scripts/setup/lib.sh
# shellcheck source=setup/debian-packages.sh
. scripts/setup/debian-packages.sh
export PATH=$TOOLS/node/bin:$PATH

failed=0

# check NAME COMMAND...
check() {
  local name=$1 log=$LOGS/check-$1.log
  shift
  STEP_START=$EPOCHREALTIME
  printf 'check: %-14s ' "$name"
  if "$@" >"$log" 2>&1 </dev/null; then
    finish ok
  else
    finish FAILED
    head -c 6000 "$log" | sed 's/^/    /'
    failed=1
  fi
}

# Only the checks need these, so set-up does not bring them.
need() {
  have "$1" && return
  logged "$1" install_packages "$1" || exit 1
}
need shellcheck
[[ ! -e docker-compose.yml ]] || need docker-compose

mapfile -t shell_scripts < <(git ls-files '*.sh' bin .ci/run)

check format-lint node_modules/.bin/biome check
check types node_modules/.bin/tsc -p tsconfig.json --noEmit
mapfile -t source_dirs < <(for dir in apps libs migrations; do [[ -n $(git ls-files "$dir") ]] && echo "$dir"; done)
check directions node_modules/.bin/depcruise --config .dependency-cruiser.cjs "${source_dirs[@]}"
# What is generated is what the .proto files say.
# shellcheck disable=SC2317
same_proto() {
  rm -rf .sandtrail/proto
  scripts/generate-proto.sh "$PWD/.sandtrail/proto"
  diff -rq .sandtrail/proto apps/gateway/modal/gen || { echo 'run scripts/generate-proto.sh' && false; }
}
check proto same_proto
# rustup's default profile has it; Debian's cargo does not, and any cargo builds the agent.
if cargo fmt --version >/dev/null 2>&1; then
  check rustfmt cargo fmt --manifest-path agent/Cargo.toml --check
fi
check shell shellcheck -x "${shell_scripts[@]}"
[[ ! -e docs/asyncapi.yaml ]] || check asyncapi node scripts/check-asyncapi.mjs docs/asyncapi.yaml
[[ ! -e docker-compose.yml ]] || check compose docker-compose -f docker-compose.yml config --quiet
exit $failed
