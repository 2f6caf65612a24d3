#!/usr/bin/env bash
# guest.sh: what the tests in a QEMU guest need beyond set-up, some 45 MB: QEMU, and a kernel with busybox in the cache.
# Its last line names their directory. Nothing of it is used by Sandtrail itself.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=versions.sh
. "$here/setup/versions.sh"
# shellcheck source=lib.sh
. "$here/setup/lib.sh"
# shellcheck source=debian-packages.sh
. "$here/setup/debian-packages.sh"

[[ $(uname -m) == x86_64 ]] || die "the tests in a guest are for x86-64"
exec 9>"$CACHE/locks/apt"
flock 9
have qemu-system-x86_64 || logged qemu install_packages qemu-system-x86 9>&-
exec 9>&-
cached "guest-$GUEST_VERSION" "$here/setup/fetch-guest.sh"
echo "$CACHE/guest-$GUEST_VERSION"
