#!/usr/bin/env bash
# fetch-guest.sh DIR: leaves DIR/vmlinuz, DIR/modules/<release> and DIR/busybox, from Debian's packages of them.
# They are unpacked, not installed: this machine's own kernel and boot loader are nobody's business.
set -euo pipefail
dir=$1
cd "$dir"
meta=linux-image-cloud-amd64
kernel() { apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1; }
[[ -n $(kernel) ]] || apt-get update -qq
apt-get download -qq "$(kernel)" busybox-static
for package in ./*.deb; do dpkg-deb -x "$package" unpacked; done
mv unpacked/boot/vmlinuz-* vmlinuz
mv unpacked/bin/busybox busybox
# depmod wants its files where a root has them.
./busybox depmod -b "$dir/unpacked" "$(basename unpacked/lib/modules/*)"
mv unpacked/lib/modules modules
rm -rf unpacked ./*.deb
