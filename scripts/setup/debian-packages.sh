# shellcheck shell=bash
# Debian packages, by the command that each brings. Only what is missing is installed.

WANTED=(
  'mkfs.btrfs btrfs-progs the pool'
  'mmdebstrap mmdebstrap the base image'
  'nft nftables the network of sandboxes'
  'ip iproute2 network namespaces'
  'slirp4netns slirp4netns the way out of open networks'
  'dnsmasq dnsmasq-base the resolver of open networks'
  'bwrap bubblewrap the jail that unpacks images'
  'openssl openssl certificates of the data plane'
  'flock util-linux locks'
)
# Only where the agent is built: an installed package brings it.
[[ ! -e $ROOT/agent/Cargo.toml ]] || WANTED+=('cc gcc linking the agent')

missing_packages() {
  local line command package
  for line in "${WANTED[@]}"; do
    read -r command package _ <<<"$line"
    have "$command" || echo "$package"
  done
  if [[ -e $ROOT/agent/Cargo.toml ]]; then
    # crt1.o and libc.a: the agent is linked statically.
    compgen -G '/usr/lib/*/libc.a' >/dev/null || echo libc6-dev
    rust_is_new_enough || printf '%s\n' rustc-web cargo-web
  fi
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
  [[ -n ${SANDTRAIL_PG_URL:-} || -n $(postgres_bin) ]] || postgres_package
  if ! have npm && ! have pip3 || ! go_is_new_enough && ! have pip3; then echo python3-pip; fi
}

# The newest server's directory, or nothing.
postgres_bin() {
  local bin
  for bin in $(compgen -G '/usr/lib/postgresql/*/bin' | sort -Vr); do
    [[ -x $bin/postgres && -x $bin/initdb ]] || continue
    at_least "$(basename "$(dirname "$bin")")" "$POSTGRES_MIN" && echo "$bin" && return 0
  done
  return 0
}

postgres_package() {
  if apt-cache show postgresql-15 >/dev/null 2>&1; then echo postgresql-15; else echo postgresql; fi
}

go_is_new_enough() { have go && at_least "$(go env GOVERSION | sed 's/^go//')" "$GO_MIN"; }

rust_is_new_enough() { have cargo && at_least "$(cargo --version | cut -d' ' -f2)" "$RUST_MIN"; }

install_packages() {
  # Debian's package would start a cluster on port 5432 that nobody asked for.
  if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
    "${AS_ROOT[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${AS_ROOT[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  "${AS_ROOT[@]}" apt-get update -qq
  "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
    install -y --no-install-recommends "$@"
}

step_debian_packages() {
  local missing
  mapfile -t missing < <(missing_packages | sort -u)
  if [[ ${#missing[@]} == 0 ]]; then
    begin packages "Debian packages"
    finish ok
    return
  fi
  have apt-get || die "these Debian packages are missing and there is no apt-get: ${missing[*]}"
  [[ $(id -u) == 0 ]] || have sudo || die "run as root, or install these Debian packages: ${missing[*]}"
  begin packages "apt-get install ${missing[*]}"
  exec 9>"$CACHE/locks/apt"
  flock 9
  # Closed for apt-get: a service that it starts must not keep the lock.
  logged packages install_packages "${missing[@]}" 9>&- || exit 1
  exec 9>&-
  hash -r
  finish
}
