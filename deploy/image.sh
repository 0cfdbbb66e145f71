#!/usr/bin/env bash
# The container image, with Buildah, Podman or Docker, whichever is there first.
#
#   image.sh build [NAME]   build deploy/Dockerfile as NAME (localhost/stillwatch:dev) and write build/sbom.cdx.json
#   image.sh tools          see to Buildah, Podman and runc (root, on Debian or Ubuntu)
#   image.sh base           make the Dockerfile's base image from Debian's packages, on a machine that reaches those and
#                           no registry of images: Python is then Debian's of the same version. Does nothing if it is there
#
# With Buildah and Podman the build uses this machine's /etc/pip.conf and CA certificates. KERNEL_CPU is as in the
# Dockerfile.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(dirname "$here")
base=$(sed -n 's/^FROM \([^ ]*\)$/\1/p' "$here/Dockerfile")

fail() {
  echo "image: $*" >&2
  exit 2
}

tools() {
  local program missing=()
  for program in buildah podman runc debootstrap; do
    type -P "$program" >/dev/null || missing+=("$program")
  done
  [[ ${#missing[@]} == 0 ]] && return
  [[ $(id -u) == 0 ]] && type -P apt-get >/dev/null || fail "needs ${missing[*]}, and only root may install them"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
}

make_base() {
  if podman image exists "$base"; then return; fi
  [[ $(id -u) == 0 ]] || fail "only root may make $base from packages"
  local root
  root=$(mktemp -d)
  echo "Making $base from Debian's packages."
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "${base##*-}" "$root" >"$root.log" 2>&1 ||
    fail "debootstrap failed, see $root.log"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
  tar -C "$root" -c . | podman import --quiet - "$base" >/dev/null
  rm -rf "$root" "$root.log"
}

build() {
  local name=${1:-localhost/stillwatch:dev} engine
  local options=(--file "$here/Dockerfile" --tag "$name" --build-arg "KERNEL_CPU=${KERNEL_CPU:-generic}")
  for engine in buildah podman docker ''; do
    if type -P "$engine" >/dev/null; then break; fi
  done
  [[ -n $engine ]] || fail "needs docker, buildah or podman"
  if [[ $engine != docker ]]; then
    options+=(--layers --pull=false)
    local file
    for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
      if [[ -f $file ]]; then options+=(--volume "$file:$file:ro"); fi
    done
    # What runs in the build has no more rights than whoever builds; root in a container may not make namespaces.
    if [[ $(id -u) == 0 ]]; then options+=(--isolation chroot); fi
  fi
  "$engine" build "${options[@]}" "$checkout"
  mkdir -p "$checkout/build"
  parts_list "$engine" "$name" >"$checkout/build/sbom.cdx.json"
  echo "Built $name; its parts are in build/sbom.cdx.json."
}

parts_list() {
  local engine=$1 name=$2 file=/opt/stillwatch/share/stillwatch/sbom.cdx.json container
  if [[ $engine == buildah ]]; then
    container=$(buildah from --pull-never "$name")
    cat "$(buildah mount "$container")$file"
    buildah rm "$container" >/dev/null
  else
    container=$("$engine" create "$name")
    "$engine" cp "$container:$file" - | tar -xO
    "$engine" rm "$container" >/dev/null
  fi
}

case ${1:-} in
  build) build "${2:-}" ;;
  tools) tools ;;
  base) make_base ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
