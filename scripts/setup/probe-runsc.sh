#!/usr/bin/env bash
# probe-runsc.sh RUNSC: prints the fastest platform on which a program really runs.
# /dev/kvm is not asked: where it exists and does not work, runsc hangs for ever.
set -euo pipefail
runsc=$1
dir=$(mktemp -d)
id=sandtrail-probe-$$
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  timeout 10 "$runsc" --root "$dir/root" delete -force "$id" >/dev/null 2>&1 || true
  # runsc leaves this mount behind after the last delete.
  umount "$dir/root/null-netns" 2>/dev/null || true
  rm -rf --one-file-system "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkdir -p "$dir/bundle/rootfs" "$dir/root"
# The host's own root, read-only: nothing has to be unpacked for a look.
cat >"$dir/bundle/config.json" <<END
{
  "ociVersion": "1.0.2",
  "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/bin/echo", "it runs"], "cwd": "/", "env": ["PATH=/bin"] },
  "root": { "path": "rootfs", "readonly": true },
  "mounts": [
    { "destination": "/bin", "type": "bind", "source": "/bin", "options": ["ro", "rbind"] },
    { "destination": "/lib", "type": "bind", "source": "/lib", "options": ["ro", "rbind"] },
    { "destination": "/lib64", "type": "bind", "source": "/lib64", "options": ["ro", "rbind"] }
  ],
  "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "network" }] }
}
END
mkdir -p "$dir/bundle/rootfs"/{bin,lib,lib64}
[[ -e /lib64 ]] || sed -i '/lib64/d; s/\("source": "\/lib".*\),$/\1/' "$dir/bundle/config.json"

for platform in systrap ptrace; do
  said=$(timeout -k 5 20 "$runsc" --root "$dir/root" --platform=$platform --network=none --ignore-cgroups \
    run --bundle "$dir/bundle" "$id" 2>/dev/null </dev/null) || true
  if [[ $said == 'it runs' ]]; then
    echo $platform
    exit 0
  fi
  timeout 10 "$runsc" --root "$dir/root" delete -force "$id" >/dev/null 2>&1 || true
done
echo "neither systrap nor ptrace ran a program" >&2
exit 1
