#!/usr/bin/env bash
# KEDA's operator and metrics adapter, from the modules that go.mod names, with KEDA's own definitions and rights in config/,
# kept in the cache outside the checkout:
#
#   build.sh build   build them when they are not there: 11 minutes of one core
#   build.sh path    print the folder that they are in, or would be
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

keda=github.com/kedacore/keda/v2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stillwatch/cluster
programs=$cache/keda-$(cat go.mod go.sum | sha256sum | cut -c 1-12)

build() {
  if [[ -d $programs ]]; then return; fi
  type -P go >/dev/null || { echo "needs Go $(sed -n 's/^go //p' go.mod) or newer on PATH" >&2 && exit 2; }
  local version unfinished=$cache/unfinished-keda
  version=$(go list -m -f '{{.Version}}' "$keda")
  echo "Building KEDA $version: 11 minutes of one core, once." >&2
  chmod -R u+w "$unfinished" 2>/dev/null || true # of a run that was cut off; Go's modules are read-only
  rm -rf "$unfinished"
  mkdir -p "$unfinished"
  GOCACHE=$cache/go-build CGO_ENABLED=0 nice -n 10 go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X $keda/version.Version=${version#v}" -o "$unfinished/" "$keda"/cmd/{operator,adapter} >&2
  cp -r "$(go list -m -f '{{.Dir}}' "$keda")/config" "$unfinished/"
  chmod -R u+w "$unfinished/config"
  rm -rf "$cache"/keda-* # of other sources
  mv "$unfinished" "$programs"
}

case ${1:-} in
  build) build ;;
  path) echo "$programs" ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
