#!/usr/bin/env bash
# build-base-image.sh DIR VERSION SUITE: leaves DIR/base-VERSION.tar, a small Debian root with Python 3.
# shellcheck disable=SC2016 # $(SITE) and $1 are for apt-get and mmdebstrap
set -euo pipefail
dir=$1 version=$2 suite=$3

# Packages come from where this machine's own apt gets them.
debian_sources() {
  apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' | sort -u
}

# On another Debian than SUITE its own release is the one that its apt can reach and its keys can verify.
debian_sources | grep -q " $suite " || suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
debian_sources | grep -E " $suite(-updates|-security)? " >"$dir/sources.list"
[[ -s $dir/sources.list ]] || { echo "apt has no source of Debian packages" >&2 && exit 1; }
# The guest's apt asks the same mirrors, but never gets a password that stands in an address.
sed 's#//[^/@ ]*@#//#' "$dir/sources.list" >"$dir/guest.list"

# Fixed, so that the same package versions give the same bytes and the same digest.
export SOURCE_DATE_EPOCH=1767225600
mmdebstrap --variant=minbase --format=tar --skip=output/mknod \
  --include=python3,ca-certificates,procps,netbase \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -f "$1"/etc/apt/sources.list.d/*' \
  --customize-hook="upload $dir/guest.list /etc/apt/sources.list" \
  --customize-hook='rm -f "$1/etc/hostname"; : >"$1/etc/resolv.conf"; chmod 644 "$1/etc/resolv.conf"' \
  "$suite" "$dir/base-$version.tar" "$dir/sources.list"
rm "$dir/sources.list" "$dir/guest.list"
tar -tf "$dir/base-$version.tar" ./usr/bin/python3 >/dev/null
