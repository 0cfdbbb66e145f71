#!/usr/bin/env bash
# Apache Kafka on this machine from its published jars: no container, no installation.
#
#   kafka.sh prepare   see to Java 17+, Maven and the jars
#   kafka.sh start     start a broker in the background and wait until it serves
#   kafka.sh stop      stop it; its data stays
#   kafka.sh status    say whether it serves
#   kafka.sh clean     stop it and delete its data
#   kafka.sh run       run a broker until standard input closes (what the tests do: no broker outlives them)
#
#   kafka.sh tool NAME ARGUMENT ...      run kafka-topics, kafka-consumer-groups or kafka-configs, for any broker
#   kafka.sh prepare-connect             see to Java 17+, Maven and the jars of Kafka Connect
#   kafka.sh connect WORKER.properties   run a Connect worker (standalone) in the foreground
#
# Environment, all optional:
#   KAFKA_PORT             where clients connect, default 9092
#   KAFKA_CONTROLLER_PORT  where the controller listens, default KAFKA_PORT + 1
#   KAFKA_FOLDER           data, log and process id, default ${XDG_CACHE_HOME:-~/.cache}/stillwatch/kafka/PORT
#   KAFKA_HEAP             Java heap, default 384m
#   KAFKA_PROPERTIES       file of further settings, which win over those of server.properties
#   KAFKA_SCRAM_USERS      SASL/SCRAM users made with the data: "name:password name:password"
#   KAFKA_CLUSTER_ID       the cluster of a node that is one of several; its properties name the controllers
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stillwatch/kafka
port=${KAFKA_PORT:-9092}
controller_port=${KAFKA_CONTROLLER_PORT:-$((port + 1))}
folder=${KAFKA_FOLDER:-$cache/$port}
pom=$(cksum <"$here/pom.xml" | cut -d' ' -f1)
jars=$cache/jars-$pom
connect_jars=$cache/connect-$pom
java=
launched=

# A loaded machine with two cores took 8 s; ten times that means that something is wrong.
start_timeout_seconds=90
stop_timeout_seconds=30

fail() {
  echo "kafka: $*" >&2
  exit 2
}

# --- Java, Maven, jars ------------------------------------------------------------------------------------------------

java_major() {
  "$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1
}

find_java() {
  local candidate major
  for candidate in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(type -P java || true)" /usr/lib/jvm/*/bin/java; do
    [[ -x $candidate ]] || continue
    major=$(java_major "$candidate" || true)
    if [[ ${major:-0} -ge 17 ]]; then
      java=$candidate
      return 0
    fi
  done
  return 1
}

may_install() {
  [[ $(id -u) == 0 ]] && type -P apt-get >/dev/null
}

install_packages() {
  echo "Installing $* from this system's packages." >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null
}

# The oldest release that is new enough, since which of them exist depends on the distribution's age.
java_package() {
  apt-get update -qq >&2
  local release
  for release in 17 21 25; do
    if apt-cache show "openjdk-$release-jre-headless" >/dev/null 2>&1; then
      echo "openjdk-$release-jre-headless"
      return
    fi
  done
}

need_java() {
  if find_java; then return; fi
  local package=
  if may_install; then package=$(java_package); fi
  if [[ -n $package ]]; then install_packages "$package" || true; fi
  find_java || fail "needs Java 17 or newer: install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
}

need_maven() {
  if type -P mvn >/dev/null; then return; fi
  if may_install; then install_packages maven || true; fi
  type -P mvn >/dev/null || fail "needs Maven once, to fetch Kafka's jars: install it (Debian, Ubuntu: apt-get install maven)"
}

# The jars of a profile of pom.xml in a folder. Copied beside the final place and moved there, so that a run that is cut
# short leaves no half a Kafka behind.
need_jars() {
  local profile=$1 into=$2
  if [[ -d $into ]]; then return; fi
  need_maven
  mkdir -p "$cache"
  local unfinished
  unfinished=$(mktemp -d "$cache/unfinished.XXXXXX")
  echo "Fetching Apache Kafka's jars ($profile) into $into." >&2
  if ! mvn --quiet --batch-mode --strict-checksums -f "$here/pom.xml" -P "$profile" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$unfinished" >"$cache/maven.log" 2>&1 </dev/null; then
    rm -rf "$unfinished"
    fail "Maven could not fetch the jars that $here/pom.xml names, see $cache/maven.log: $(sed -n 's/.*\[ERROR\] //p' "$cache/maven.log" | head -1)"
  fi
  mv "$unfinished" "$into" 2>/dev/null || rm -rf "$unfinished" # another run was quicker
}

prepare() {
  need_java
  need_jars broker "$jars"
}

# --- One broker -------------------------------------------------------------------------------------------------------

listening() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A small system has no ps, and only Linux has /proc.
command_line() {
  if [[ -d /proc/self ]]; then
    { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null
  else
    ps -ww -o args= -p "$1"
  fi
}

# The process id of this folder's broker, when it runs. The command line is compared too: after a reboot the number in
# the file may be another program's.
running() {
  local pid
  pid=$(cat "$folder/pid" 2>/dev/null) || return 1
  [[ "$(command_line "$pid")" == *"kafka.Kafka $folder/server.properties"* ]] && echo "$pid"
}

write_configuration() {
  mkdir -p "$folder"
  # Of a setting that is given twice, Kafka takes the last one.
  cat "$here/server.properties" ${KAFKA_PROPERTIES:+"$KAFKA_PROPERTIES"} |
    sed -e "s/@PORT@/$port/g" -e "s/@CONTROLLER_PORT@/$controller_port/g" \
      -e "s|@FOLDER@|$folder|g" >"$folder/server.properties"
}

# A node's data is formatted once. Kafka takes any 16 random bytes in URL-safe base64 that do not start with a dash.
format() {
  if [[ -f $folder/data/meta.properties ]]; then return; fi
  local id user mechanism
  local scram=() quorum=(--standalone)
  id=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)
  if [[ -n ${KAFKA_CLUSTER_ID:-} ]]; then id=$KAFKA_CLUSTER_ID quorum=(); fi
  for user in ${KAFKA_SCRAM_USERS:-}; do
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      scram+=(--add-scram "$mechanism=[name=${user%%:*},password=${user#*:}]")
    done
  done
  "$java" -cp "$jars/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error kafka.tools.StorageTool \
    format ${quorum[@]+"${quorum[@]}"} -t "$id" -c "$folder/server.properties" ${scram[@]+"${scram[@]}"} >"$folder/format.log" 2>&1 ||
    fail "could not format $folder/data: $(tail -1 "$folder/format.log")"
}

check_ports() {
  local taken
  for taken in "$port" "$controller_port"; do
    if listening "$taken"; then
      fail "port $taken of 127.0.0.1 is taken by another program: stop that, or choose another with KAFKA_PORT=19092"
    fi
  done
}

# Starts Java in the background and leaves its process id in $folder/pid.
launch() {
  write_configuration
  format
  if [[ -f $folder/kafka.log ]]; then mv "$folder/kafka.log" "$folder/kafka.log.1"; fi
  nohup "$java" "-Xmx${KAFKA_HEAP:-384m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
    -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS" \
    kafka.Kafka "$folder/server.properties" >"$folder/kafka.log" 2>&1 </dev/null &
  launched=$!
  echo "$launched" >"$folder/pid"
}

# A broker that does not come up is not left behind half started.
give_up() {
  if [[ -n $launched ]]; then kill -KILL "$launched" 2>/dev/null || true; fi
  fail "$@"
}

# The port opens a little before the broker answers; its own word for ready is in the log.
wait_until_serving() {
  local deadline=$((SECONDS + start_timeout_seconds))
  until grep -q 'Kafka Server started' "$folder/kafka.log" && listening "$port"; do
    running >/dev/null || give_up "the broker ended at once; the end of $folder/kafka.log: $(tail -3 "$folder/kafka.log")"
    [[ $SECONDS -lt $deadline ]] || give_up "the broker does not serve after $start_timeout_seconds s, see $folder/kafka.log"
    sleep 0.2
  done
}

start() {
  if running >/dev/null; then
    wait_until_serving
    echo "Kafka already serves on 127.0.0.1:$port (process $(running))."
    return
  fi
  check_ports
  prepare
  launch
  wait_until_serving
  echo "Kafka serves on 127.0.0.1:$port (process $(running), data and log in $folder)."
}

stop() {
  local pid deadline=$((SECONDS + stop_timeout_seconds))
  if ! pid=$(running); then
    rm -f "$folder/pid"
    echo "No Kafka of ours runs on port $port."
    return
  fi
  kill "$pid"
  while running >/dev/null; do
    if [[ $SECONDS -ge $deadline ]]; then kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.2
  done
  rm -f "$folder/pid"
  echo "Kafka on port $port is stopped."
}

status() {
  if running >/dev/null && listening "$port"; then
    echo "Kafka serves on 127.0.0.1:$port (process $(running), data and log in $folder)."
  else
    echo "No Kafka of ours serves on port $port."
    return 1
  fi
}

clean() {
  stop
  rm -rf "$folder"
}

run() {
  check_ports
  prepare
  trap 'stop >/dev/null; wait' EXIT
  trap 'exit 143' TERM INT HUP
  launch
  wait_until_serving
  echo "127.0.0.1:$port"
  local status=0
  while running >/dev/null; do
    # Above 128 the second is over; anything else but a line is the end of the input.
    IFS= read -r -t 1 _ || status=$?
    [[ $status == 0 || $status -gt 128 ]] || break
    status=0
  done
}

tool() {
  local class
  case ${1:-} in
    kafka-topics) class=org.apache.kafka.tools.TopicCommand ;;
    kafka-consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    kafka-configs) class=kafka.admin.ConfigCommand ;;
    *) fail "no tool ${1:-}: kafka-topics, kafka-consumer-groups and kafka-configs are here" ;;
  esac
  prepare
  exec "$java" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$class" "${@:2}"
}

# --- Kafka Connect ----------------------------------------------------------------------------------------------------

prepare_connect() {
  need_java
  need_jars connect "$connect_jars"
}

connect() {
  [[ -f ${1:-} ]] || fail "connect needs the file of the worker's settings: kafka.sh connect worker.properties"
  prepare_connect
  exec "$java" "-Xmx${KAFKA_HEAP:-384m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$connect_jars/*" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn org.apache.kafka.connect.cli.ConnectStandalone "$1"
}

case ${1:-} in
  tool) tool "${@:2}" ;;
  prepare | start | stop | status | clean | run) "$1" ;;
  prepare-connect) prepare_connect ;;
  connect) connect "${2:-}" ;;
  *) sed -n '2,22s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
