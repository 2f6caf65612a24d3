#!/usr/bin/env bash
# probe-pool.sh DIR: makes a small btrfs file system in a file of DIR and prints the kind of quota that works.
set -euo pipefail
dir=$(mktemp -d "$1/pool-probe.XXXXXX")
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  mountpoint -q "$dir/mnt" && umount "$dir/mnt"
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

truncate -s 256M "$dir/pool.img"
mkfs.btrfs -q "$dir/pool.img" >/dev/null 2>&1
mkdir "$dir/mnt"
mount -o loop,noatime,user_subvol_rm_allowed "$dir/pool.img" "$dir/mnt"
btrfs quota enable "$dir/mnt"
btrfs -q subvolume create "$dir/mnt/image" >/dev/null
btrfs -q subvolume snapshot "$dir/mnt/image" "$dir/mnt/root" >/dev/null
btrfs qgroup limit 16M "$dir/mnt/root"
refusal=$(LC_ALL=C dd if=/dev/zero of="$dir/mnt/root/big" bs=1M count=64 conv=fsync 2>&1) && {
  echo "64 MiB went into a snapshot limited to 16 MiB" >&2
  exit 1
}
grep -q 'Disk quota exceeded' <<<"$refusal" || { echo "$refusal" >&2 && exit 1; }
echo qgroup
