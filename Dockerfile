# One image for every service; docker-compose.yml names the command. The versions are those of scripts/setup/versions.sh.

FROM debian:bookworm-slim AS agent
RUN apt-get update && apt-get install -y --no-install-recommends cargo-web rustc-web gcc libc6-dev ca-certificates
WORKDIR /src
COPY agent agent
COPY scripts/setup/build-agent.sh scripts/setup/
RUN mkdir /out && bash scripts/setup/build-agent.sh /out agent

FROM golang:1.26-bookworm AS runsc
WORKDIR /src
COPY scripts/setup/versions.sh scripts/setup/build-go-tool.sh ./
RUN . ./versions.sh && mkdir /out && bash build-go-tool.sh /out "$RUNSC_MODULE@$RUNSC_VERSION"

FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY apps apps
COPY libs libs
COPY migrations migrations
COPY bench bench
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
# What the runtime-worker uses of its host: the pool, networks, the jail that unpacks images, certificates.
RUN apt-get update \
  && apt-get install -y --no-install-recommends \
    btrfs-progs bubblewrap ca-certificates dnsmasq-base iproute2 nftables openssl slirp4netns tar \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sandtrail
COPY --from=build /src/package.json ./
COPY --from=build /src/node_modules node_modules
COPY --from=build /src/dist dist
COPY --from=agent /out/sandtrail-agent /out/
COPY --from=runsc /out/runsc /out/
RUN mv /out/* /usr/local/bin/ && rmdir /out
COPY bin bin
COPY scripts/system scripts/system
COPY scripts/deploy scripts/deploy
# A named volume takes its owner from here.
RUN install -d -o node -g node /trail /blobs
ENV NODE_ENV=production
# Only the worker needs root and says so in docker-compose.yml.
USER node
CMD ["node", "dist/apps/cli/main.js", "--help"]
