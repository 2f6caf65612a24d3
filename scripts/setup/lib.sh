# shellcheck shell=bash
# What every set-up step uses: one line of output per step, and the cache by version.

# Shells of unprivileged users lack sbin, where mkfs.btrfs, nft and ip live.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS=$ROOT/.tools
LOGS=$ROOT/.sandtrail/logs

# Other uids (postgres, nobody) execute from the cache, so root's is not below /root.
if [[ -n ${SANDTRAIL_CACHE:-} ]]; then
  CACHE=$SANDTRAIL_CACHE
elif [[ $(id -u) == 0 ]]; then
  CACHE=/var/cache/sandtrail
else
  CACHE=$HOME/.cache/sandtrail
fi

umask 022
mkdir -p "$CACHE/locks" "$TOOLS" "$LOGS"

# shellcheck disable=SC2034 # used by the steps
if [[ $(id -u) == 0 ]]; then AS_ROOT=(); else AS_ROOT=(sudo); fi

die() {
  printf '\nsetup: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# at_least HAVE WANTED: compares dotted versions.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

# begin NAME WHY / finish [RESULT]: the one line of a step.
begin() {
  STEP_START=$EPOCHREALTIME
  printf 'setup: %-14s %-66s ' "$1" "$2"
}

finish() {
  local ms=$(((${EPOCHREALTIME/[.,]/} - ${STEP_START/[.,]/}) / 1000))
  printf '%s  %d.%d s\n' "${1:-done}" $((ms / 1000)) $((ms % 1000 / 100))
}

# logged NAME COMMAND...: its output goes to a log; the end of it is shown when it fails.
logged() {
  local log=$LOGS/setup-$1.log
  shift
  if "$@" >"$log" 2>&1 </dev/null; then return 0; fi
  printf 'failed\n' >&2
  tail -n 25 "$log" | sed 's/^/    /' >&2
  printf '    (the whole log: %s)\n' "$log" >&2
  return 1
}

# cached NAME SCRIPT ARGS...: makes $CACHE/NAME by running SCRIPT with an empty directory, unless it is there.
# The lock lets two clones set up at once; `--close` keeps it from what SCRIPT starts.
cached() {
  local name=$1
  shift
  [[ -e $CACHE/$name ]] && return 0
  logged "$name" flock --close "$CACHE/locks/$name" bash "$ROOT/scripts/setup/into-cache.sh" "$CACHE/$name" "$@"
}
