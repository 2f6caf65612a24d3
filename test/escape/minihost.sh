#!/bin/bash
# minihost.sh DIR IMAGE NAME SECRET RESOLVER: PID 1 of the namespaces that play a host to escape to, and the control sandbox in
# them: a chroot with the host's network, processes, devices and capabilities and a bind of /, read-only but for DIR.
set -euo pipefail
dir=$1 image=$2 name=$3 secret=$4

hostname "$name"
(
  cd "$dir"
  exec 3<flag
  ESCAPE_SECRET=$secret exec -a "$(<title)" sleep 3600
) &
echo "victim $!"
bash -c 'exec -a "$0" sleep 3600' "$(<"$dir/mortal")" &
echo "mortal $!"

mount -t tmpfs control "$dir/control"
cd "$dir/control"
mkdir upper work root
mount -t overlay control -o "lowerdir=$image,upperdir=upper,workdir=work" root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs dev dev
mknod dev/null c 1 3
mknod dev/urandom c 1 9
mkdir host ro .sandtrail
mount --bind / host
mount -o remount,bind,ro host
mount --bind "$dir" "host$dir"
mount --bind "$dir/hosts" etc/hosts
mount --bind "$dir/ro" ro
mount -o remount,bind,ro ro
touch .sandtrail/agent
echo "nameserver $5" >etc/resolv.conf
mount --bind "$dir/agent" .sandtrail/agent
echo ready
exec sleep infinity
