#!/usr/bin/env bash
# into-cache.sh TARGET SCRIPT ARGS...: SCRIPT fills an empty directory, which becomes TARGET in one rename,
# so that whoever sees TARGET sees all of it.
set -euo pipefail
target=$1
shift
[[ -e $target ]] && exit 0 # Another clone made it while this one waited for the lock.

umask 022
# What a killed run left; the lock is ours, so nobody works in it.
rm -rf "$target".tmp.*
partial=$(mktemp -d "$target.tmp.XXXXXX")
trap 'rm -rf "$partial"' EXIT
trap 'exit 130' INT TERM
bash "$1" "$partial" "${@:2}"
chmod -R a+rX "$partial"
mv -T "$partial" "$target"
