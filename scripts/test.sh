#!/usr/bin/env bash
# test.sh: set-up, checks and every test, however many fail; the last line is `N passed, N failed`.
# test.sh PATTERN: only the Jest files whose path matches.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH=$PWD/.tools/node/bin:$PATH

results=$PWD/.sandtrail/test

# step_failed NAME: what is no test; the last line counts it as one that failed.
step_failed() { echo "$1" >>"$results/failed-steps"; }

# What only the tests need, so set-up does not bring it.
debian_package() {
  # shellcheck source=setup/versions.sh
  . scripts/setup/versions.sh
  # shellcheck source=setup/lib.sh
  . scripts/setup/lib.sh
  # shellcheck source=setup/debian-packages.sh
  . scripts/setup/debian-packages.sh
  logged "$1" install_packages "$1"
}

# The Python example runs in a virtual environment; on Debian that is a package of its own.
need_python_venv() { python3 -c 'import ensurepip, venv' 2>/dev/null || debian_package python3-venv; }

# systemd's own checker reads the units; it need not run for that.
need_systemd_analyze() { command -v systemd-analyze >/dev/null || debian_package systemd; }

jest() { # jest PHASE ARGS...: results go to PHASE.json; a run that hangs is ended
  local phase=$1
  shift
  run_jest "$phase" --passWithNoTests "$@" && return
  local first=$results/$phase.json again=$results/again-$phase
  [[ -e $first ]] || { step_failed "$phase tests"; return; }
  mapfile -t files < <(node scripts/second-run.mjs list "$first")
  [[ ${#files[@]} -gt 0 ]] || { step_failed "$phase tests"; return; }
  say "${#files[@]} files of $phase failed: once more, alone"
  run_jest "again-$phase" --runInBand --runTestsByPath "${files[@]}" || true
  [[ ! -e $again.json ]] || node scripts/second-run.mjs merge "$first" "$again.json" || true
  rm -f "$again.json"
}

run_jest() { # run_jest RESULT ARGS...
  local result=$1
  shift
  timeout -k 30 1500 npm run -s jest -- --json --outputFile="$results/$result.json" "$@"
}

say() { printf '\n== %s\n' "$*"; }

rm -rf "$results"
mkdir -p "$results"

if [[ -n ${1:-} ]]; then
  scripts/build.sh || step_failed build
  jest pattern --runInBand "$1"
else
  say checks
  scripts/check.sh || step_failed checks
  say build
  scripts/build.sh || step_failed build
  if [[ -e agent/Cargo.toml ]]; then
    say agent
    (cd agent && cargo test 2>&1) | tee "$results/cargo.log" || step_failed agent
  fi
  say unit tests
  need_systemd_analyze || step_failed systemd-analyze
  jest unit --maxWorkers=2 --testPathIgnorePatterns /node_modules/ '\.int\.spec\.ts$' '\.e2e\.spec\.ts$'
  say integration tests: real Postgres, NATS, btrfs, runsc
  jest int --maxWorkers=2 '\.int\.spec\.ts$'
  say end to end: the whole system
  need_python_venv || step_failed python3-venv
  jest e2e --runInBand '\.e2e\.spec\.ts$'
fi

say result
node scripts/test-result.mjs "$results"
