#!/usr/bin/env bash
# Corelane behind the same verbs as kafka.sh.
#   corelane.sh start|stop|kill9|status|wipe|pids|bootstrap
# Environment: CORELANE_BIN (target/release/corelane), CORELANE_RUN (data and logs), CORELANE_PORT (9392), CORELANE_ARGS (added to
#   `start`), ADVERTISE (node|shard), LISTEN_ON (listeners, the first of them at that port).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${CORELANE_BIN:-$here/../target/release/corelane}
run=${CORELANE_RUN:-$here/../target/corelane-run}
address=127.0.0.1:${CORELANE_PORT:-9392}
alive() { local p; p=$(cat "$run/pid" 2>/dev/null) && kill -0 "$p" 2>/dev/null && echo "$p"; }

start() {
  alive >/dev/null && return
  ulimit -n "$(ulimit -Hn)"
  mkdir -p "$run"
  # The broker takes its settings from CORELANE_ variables and refuses those that it does not know.
  # shellcheck disable=SC2086
  setsid nohup env -u CORELANE_BIN -u CORELANE_RUN -u CORELANE_PORT -u CORELANE_ARGS -u CORELANE_BOOTSTRAP -u CORELANE_CACHE -u CORELANE_LONG "$bin" start --data-dir "$run/data" --listen "${LISTEN_ON:-$address}" --node-id 1 --advertise "${ADVERTISE:-node}" \
    --set auto.create.topics.enable=false ${CORELANE_ARGS:-} >>"$run/server.log" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
  echo $! >"$run/pid"
}

halt() { # $1: signal
  local p
  p=$(alive) && { kill "-$1" "$p" || true; while kill -0 "$p" 2>/dev/null; do sleep 0.01; done; }
  rm -f "$run/pid"
}

case ${1:-status} in
  start) start ;;
  stop) halt TERM ;;
  kill9) halt KILL ;;
  wipe) halt KILL; rm -rf "${run:?}" ;;
  pids) alive || true ;;
  bootstrap) echo "$address" ;;
  status) if p=$(alive); then echo "pid $p, $(awk '/VmRSS/{print $2/1024 " MiB"}' "/proc/$p/status")"; else echo down; fi ;;
  *) sed -n 2,5p "$here/corelane.sh"; exit 2 ;;
esac
