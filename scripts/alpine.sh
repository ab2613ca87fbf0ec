#!/bin/sh
# Builds prebuilds/PLATFORM and the bundle for musl, in node:20-alpine, and asks a TypeScript module by them. The release runs it.
#   sh scripts/alpine.sh linux-x64-musl|linux-arm64-musl
set -eu
platform=$1

apk add --no-cache build-base cmake linux-headers luajit python3
npm ci --no-audit --no-fund
npm run prebuild -- --libnode none
node scripts/build.mjs host dist
node dist/cli/main.js bundle --platform "$platform" --out "resty-ts-$platform.tar.gz"

want="prebuilds/$platform/libresty_ts.so"
answer=$(LUA_PATH="$PWD/lua/?.lua;;" luajit test/packaging/smoke/smoke.lua "$PWD/test/packaging/smoke" runtime=auto)
echo "$answer"
case $answer in
42*process*"$want") ;;
*) echo "the answer is not 42, by a process and $want" >&2 && exit 1 ;;
esac
