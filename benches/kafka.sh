#!/usr/bin/env bash
# The real peer: Apache Kafka (KRaft, combined mode) out of Maven jars, with the flags that its stock scripts use.
#   kafka.sh install     fetch the jars (mvn), or do nothing if they are there
#   kafka.sh start|stop|kill9|status|wipe|pids|bootstrap
#   kafka.sh run         as this process, until it is told to end
# Environment: KAFKA_JARS (jars are kept here; default: kafka/ in CORELANE_CACHE, which defaults to ~/.cache/corelane),
#   KAFKA_RUN (data and logs), KAFKA_PORT (9092; the next one is the controller's), KAFKA_VERSION, HEAP,
#   KAFKA_EXTRA ("key=value key=value": lines added to server.properties), KAFKA_CLASSPATH (classes of its plugins).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=${KAFKA_VERSION:-4.3.1}
LOG4J=${LOG4J_VERSION:-2.25.4}
HEAP=${HEAP:--Xmx1G -Xms1G}
home=${KAFKA_JARS:-${CORELANE_CACHE:-$HOME/.cache/corelane}/kafka}/$VERSION
run=${KAFKA_RUN:-$here/../target/kafka}
port=${KAFKA_PORT:-9092}
CLUSTER_ID=MkU3OEVBNTcwNTJENDM2Qg
# kafka-run-class.sh: KAFKA_JVM_PERFORMANCE_OPTS
JVM="-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true"

install() {
  local artifacts="kafka_2.13 kafka-server kafka-tools kafka-streams connect-runtime connect-file"
  [ "$(cat "$home/.complete" 2>/dev/null)" = "$artifacts" ] && return
  mkdir -p "$home"
  dep() { echo "<dependency><groupId>$1</groupId><artifactId>$2</artifactId><version>$3</version></dependency>"; }
  { echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>peer</groupId><artifactId>peer</artifactId><version>1</version><dependencies>'
    for a in $artifacts; do dep org.apache.kafka "$a" "$VERSION"; done
    for a in log4j-slf4j-impl log4j-core log4j-api; do dep org.apache.logging.log4j $a "$LOG4J"; done
    echo '</dependencies></project>'; } >"$home/pom.xml"
  (cd "$home" && mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=libs)
  echo "$artifacts" >"$home/.complete"
}

config() { # the stock config/server.properties with this node's ports and folders
  mkdir -p "$run"
  cat >"$run/log4j2.properties" <<X
rootLogger.level=INFO
rootLogger.appenderRef.o.ref=o
appender.o.type=Console
appender.o.name=o
appender.o.layout.type=PatternLayout
appender.o.layout.pattern=[%d] %p %m (%c)%n
X
  { echo "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:$((port + 1))
listeners=PLAINTEXT://localhost:$port,CONTROLLER://localhost:$((port + 1))
advertised.listeners=PLAINTEXT://localhost:$port,CONTROLLER://localhost:$((port + 1))
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=$run/data
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
auto.create.topics.enable=false"
    for kv in ${KAFKA_EXTRA:-}; do echo "$kv"; done
  } >"$run/server.properties"
}

alive() { local p; p=$(cat "$run/pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null && echo "$p"; }

ready() {
  install
  ulimit -n "$(ulimit -Hn)"
  config
  [ -f "$run/data/meta.properties" ] || java -cp "$home/libs/*" -Dlog4j2.configurationFile="$run/log4j2.properties" \
    kafka.tools.StorageTool format -t $CLUSTER_ID --standalone -c "$run/server.properties" >"$run/format.log" 2>&1 \
    || { cat "$run/format.log"; exit 1; }
}

serve() {
  ready
  # shellcheck disable=SC2086
  exec java $HEAP $JVM -Dlog4j2.configurationFile="$run/log4j2.properties" -cp "$home/libs/*${KAFKA_CLASSPATH:+:$KAFKA_CLASSPATH}" kafka.Kafka "$run/server.properties" \
    >>"$run/server.log" 2>&1
}

start() {
  alive >/dev/null && return
  ready
  # no inherited descriptor may stay open in the daemon (a caller's flock would be held for its life)
  # shellcheck disable=SC2086
  setsid nohup java $HEAP $JVM -Dlog4j2.configurationFile="$run/log4j2.properties" -cp "$home/libs/*${KAFKA_CLASSPATH:+:$KAFKA_CLASSPATH}" kafka.Kafka "$run/server.properties" \
    >>"$run/server.log" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
  echo $! >"$run/pid"
}

halt() { # $1: signal
  local p
  p=$(alive) && { kill "-$1" "$p" || true; while kill -0 "$p" 2>/dev/null; do sleep 0.05; done; }
  rm -f "$run/pid"
}

case ${1:-status} in
  install) install ;;
  start) start ;;
  run) serve ;;
  stop) halt TERM ;;
  kill9) halt KILL ;;
  wipe) halt KILL; rm -rf "${run:?}" ;;
  pids) alive || true ;;
  bootstrap) echo "localhost:$port" ;;
  status) if p=$(alive); then echo "pid $p, $(awk '/VmRSS/{print $2/1024 " MiB"}' "/proc/$p/status")"; else echo down; fi ;;
  *) sed -n 2,9p "$here/kafka.sh"; exit 2 ;;
esac
