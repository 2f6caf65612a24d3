#!/usr/bin/env bash
# generate-proto.sh [DIR]: TypeScript of the .proto files of the Modal SDKs' port, into DIR (the place that is committed).
set -euo pipefail
cd "$(dirname "$0")/../apps/gateway/modal/proto"
bin=$PWD/../../../../node_modules/.bin
PATH=$bin:$PATH buf generate --template "{\"version\":\"v2\",\"clean\":true,\"plugins\":[{\"local\":\"protoc-gen-es\",\"out\":\"${1:-../gen}\",\"opt\":[\"target=ts\",\"import_extension=js\"]}]}"
