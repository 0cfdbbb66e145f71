#!/usr/bin/env bash
# Virtual environments made from the lock files, on any Python this project supports.
#
#   venv.sh find                           print the newest usable interpreter on PATH
#   venv.sh all                            print a usable interpreter of every supported version the machine has
#   venv.sh make FOLDER runtime|dev [PYTHON]
#                                          make or refresh the environment in FOLDER; does nothing when it is current
#
# An environment is current when the lock file it was made from is the one in the checkout. A changed lock means a
# new environment, since pip removes nothing that an older lock had brought.
set -euo pipefail

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
supported="3.13 3.12 3.11"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

fail() {
  echo "stillwatch: $*" >&2
  exit 2
}

# Prints the interpreter's own path when it runs, has the version and can make environments. Finding a name on PATH is
# not enough: version managers leave shims there that fail, and Debian splits venv into a package of its own.
usable() {
  local candidate=$1 version=$2
  "$candidate" -c '
import ensurepip, sys, venv
if f"{sys.version_info[0]}.{sys.version_info[1]}" != sys.argv[1]:
    sys.exit(1)
print(sys.executable)' "$version" 2>/dev/null
}

on_path() {
  local version=$1 candidate
  { type -ap "python$version" python3 python || true; } | while read -r candidate; do
    if usable "$candidate" "$version"; then break; fi
  done
}

# Interpreters that a version manager keeps without putting them on PATH.
managed() {
  local version=$1 candidate shim
  local roots=("${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".* "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}/cpython-$version".*)
  shim=$(type -P "python$version" || true)
  if [[ $shim == */shims/* ]]; then roots+=("${shim%/shims/*}/versions/$version".*); fi
  for candidate in "${roots[@]}"; do
    if usable "$candidate/bin/python3" "$version"; then break; fi
  done
}

find_python() {
  local version found
  for version in $supported; do
    found=$(on_path "$version")
    if [[ -n $found ]]; then
      echo "$found"
      return
    fi
  done
  fail "no usable Python on PATH: install Python 3.11, 3.12 or 3.13 with its venv module (Debian: apt-get install python3-venv), or say which: make PYTHON=/path/to/python3"
}

all_pythons() {
  local version found
  for version in $supported; do
    found=$(on_path "$version")
    [[ -n $found ]] || found=$(managed "$version")
    [[ -z $found ]] || echo "$found"
  done
}

# The development lock holds everything the runtime lock holds.
has_lock() {
  local folder=$1 lock=$2
  cmp -s "$checkout/$lock" "$folder/$lock"
}

is_current() {
  local folder=$1 set=$2
  has_lock "$folder" requirements-dev.lock || { [[ $set == runtime ]] && has_lock "$folder" requirements.lock; }
}

# What is there may be kept and added to when it works, sits where it was made (its scripts name their interpreter by
# full path) and came from the present runtime lock.
is_sound() {
  local folder=$1
  [[ "$("$folder/bin/python" -c 'import sys; print(sys.prefix)' 2>/dev/null)" == "$folder" ]] &&
    [[ "$(cat "$folder/checkout" 2>/dev/null)" == "$checkout" ]] &&
    has_lock "$folder" requirements.lock
}

make_environment() {
  local folder=$1 set=$2 python=${3:-}
  local lock=requirements.lock
  if [[ $set == dev ]]; then lock=requirements-dev.lock; fi
  mkdir -p "$(dirname "$folder")"
  folder=$(cd "$(dirname "$folder")" && pwd -P)/$(basename "$folder")
  if [[ -n $python ]] && ! same_version "$folder/bin/python" "$python"; then
    rm -rf "$folder"
  fi
  is_sound "$folder" || rm -rf "$folder"
  if [[ ! -d $folder ]]; then
    [[ -n $python ]] || python=$(find_python)
    "$python" -m venv "$folder" || fail "$python could not make a virtual environment in $folder"
  fi
  local pip=("$folder/bin/python" -m pip install --quiet --progress-bar off)
  if ! is_current "$folder" "$set"; then
    echo "Installing the packages of $lock into $folder ($("$folder/bin/python" --version)); the first time takes a minute."
    # Wheels only: a package built here would bring build requirements that no lock names. No dependencies: the lock
    # names all of them, and older releases of pip look past it for one that is asked for with an extra.
    "${pip[@]}" --no-deps --only-binary :all: --require-hashes -r "$checkout/$lock" ||
      fail "pip could not install $lock (its own words are above)"
    rm -f "$folder/pyproject.toml"
  fi
  if ! cmp -s "$checkout/pyproject.toml" "$folder/pyproject.toml"; then
    "${pip[@]}" --no-deps --no-build-isolation --no-index --editable "$checkout"
  fi
  cp "$checkout/pyproject.toml" "$checkout/requirements.lock" "$folder/"
  if [[ $set == dev ]]; then cp "$checkout/requirements-dev.lock" "$folder/"; fi
  echo "$checkout" >"$folder/checkout"
}

same_version() {
  local show='import sys; print(sys.version_info[:3])'
  [[ "$("$1" -c "$show" 2>/dev/null)" == "$("$2" -c "$show")" ]]
}

case ${1:-} in
  find) find_python ;;
  all) all_pythons ;;
  make) make_environment "$2" "$3" "${4:-}" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
