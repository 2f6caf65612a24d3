# shellcheck shell=bash
# Checks by doing: what a kernel can do is never read off a device node or a version. Once per boot and version.

# probed NAME SCRIPT ARGS...: prints what SCRIPT printed, from the stamp when this boot has one.
probed() {
  local stamp=$CACHE/probe-$1
  local boot
  boot=$(cat /proc/sys/kernel/random/boot_id)
  shift
  if [[ ! -e $stamp || $(head -n 1 "$stamp") != "$boot $*" ]]; then
    local answer
    answer=$(bash "$ROOT/scripts/setup/$1" "${@:2}") || return 1
    printf '%s\n%s\n' "$boot $*" "$answer" >"$stamp.$$"
    mv "$stamp.$$" "$stamp"
  fi
  tail -n 1 "$stamp"
}

step_probe_runsc() {
  begin platform "gVisor runs a program: systrap, else ptrace"
  [[ $(id -u) == 0 ]] || { RUNSC_PLATFORM= && finish 'skipped: needs root' && return; }
  RUNSC_PLATFORM=$(probed runsc probe-runsc.sh "$RUNSC") || die "runsc runs no program on this machine"
  finish "$RUNSC_PLATFORM"
}

step_probe_pool() {
  begin pool "a btrfs file system in a file, with a quota that is enforced"
  [[ $(id -u) == 0 ]] || { POOL_QUOTA= && finish 'skipped: needs root' && return; }
  POOL_QUOTA=$(probed pool probe-pool.sh "$CACHE") || die "no btrfs pool with quotas on this machine"
  finish "$POOL_QUOTA"
}
