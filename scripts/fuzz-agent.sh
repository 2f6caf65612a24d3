#!/usr/bin/env bash
# fuzz-agent.sh SECONDS [TARGET...]: libFuzzer on what the agent reads, SECONDS for each target, from the corpus in git.
# New finds of coverage go to .sandtrail/fuzz; a crash is kept there and is an error. docs/adr/0100 says why so.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(frames messages streams users)
host=$(rustc -vV | sed -n 's/^host: //p')
out=$PWD/.sandtrail/fuzz

# The compiler's own coverage instruments, which a stable cargo takes too; what cargo-fuzz would add needs a nightly.
flags=(-Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$option")
done
(cd agent/fuzz && RUSTFLAGS="${flags[*]}" cargo build --quiet --locked --release --target "$host" --bins)

failed=0
for target in "${targets[@]}"; do
  found=$out/$target
  mkdir -p "$found"
  options=(-max_total_time="$seconds" -max_len=1024 -timeout=5 -rss_limit_mb=1024 -artifact_prefix="$out/crash-$target-")
  [[ ! -e agent/fuzz/$target.dict ]] || options+=(-dict="agent/fuzz/$target.dict")
  if "agent/fuzz/target/$host/release/$target" "${options[@]}" "$found" "agent/fuzz/corpus/$target" >"$found.log" 2>&1; then
    grep '^Done' "$found.log" | sed "s/^/fuzz: $target: /"
  else
    echo "fuzz: $target FAILED: see $found.log"
    tail -20 "$found.log"
    failed=1
  fi
done
exit $failed
