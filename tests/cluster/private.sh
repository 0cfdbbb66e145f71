#!/usr/bin/env bash
# Runs a command with processes, mounts, network and control groups of its own, so that a cluster beneath it changes
# nothing of the machine and leaves nothing behind, however it ends:
#
#   private.sh COMMAND [ARGUMENT ...]
#
# The command sees CLUSTER_CGROUP, the name of its control group, and the address 10.200.0.1 on an interface that leads
# nowhere: no packet leaves the machine. Needs Linux and root. Control groups of version 1 were tried, version 2 was not.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
  [[ $(uname -s) == Linux && $(id -u) == 0 ]] || { echo "a cluster needs Linux and root, for namespaces of its own" >&2 && exit 2; }
  type -P ip unshare >/dev/null || { echo "a cluster needs ip and unshare: apt-get install iproute2 util-linux" >&2 && exit 2; }
  export CLUSTER_CGROUP=stillwatch-cluster-$$
  # Control groups are the one thing that does not end with the namespaces.
  remove_groups() {
    local try
    for try in {1..50}; do
      find /sys/fs/cgroup -depth -type d -path "*/$CLUSTER_CGROUP*" -exec rmdir {} + 2>/dev/null || true
      [[ -n $(find /sys/fs/cgroup -type d -name "$CLUSTER_CGROUP" -print -quit) ]] || return 0
      sleep 0.1
    done
    echo "control groups called $CLUSTER_CGROUP are left below /sys/fs/cgroup" >&2
  }
  trap remove_groups EXIT
  unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private "$0" --inside "$@"
  exit
fi
shift

mount --make-rshared / # the kubelet hands volumes on to its pods
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns

# Whatever the kubelet and its plugins write to fixed places is seen here only.
for folder in /var/lib /var/log /usr/libexec; do
  mkdir -p "/run/written$folder"/{upper,work}
  mount -t overlay -o "lowerdir=$folder,upperdir=/run/written$folder/upper,workdir=/run/written$folder/work" overlay "$folder"
done

# The kubelet sets these for the whole machine. It gets files of its own to write to.
for setting in vm/overcommit_memory=1 kernel/panic=10 kernel/panic_on_oops=1; do
  file=/run/${setting//\//.}
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done

# A pair of virtual interfaces, since not every kernel has the kind called dummy.
ip link set lo up
ip link add node0 type veth peer name node0-end
ip address add 10.200.0.1/24 dev node0
ip link set node0-end up
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

"$@"
