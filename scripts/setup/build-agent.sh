#!/usr/bin/env bash
# build-agent.sh DIR AGENT_SOURCES: leaves DIR/sandtrail-agent, one static program.
set -euo pipefail
dir=$1 sources=$2
target=$(uname -m)-unknown-linux-gnu

# glibc, statically: no musl target is needed, so any cargo will do.
export RUSTFLAGS='-C target-feature=+crt-static'
cd "$sources"
locked=()
[[ -e Cargo.lock ]] && locked=(--locked)
cargo build --release "${locked[@]}" --target "$target"

mapfile -t programs < <(find "target/$target/release" -maxdepth 1 -type f -perm -u+x ! -name '*.so')
[[ ${#programs[@]} == 1 ]] || { echo "expected one program, found: ${programs[*]:-none}" >&2 && exit 1; }
install -m 755 "${programs[0]}" "$dir/sandtrail-agent"
