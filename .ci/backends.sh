# shellcheck shell=bash
# Makes PostgreSQL and Redis answer for the tests, on Debian. Meant to be sourced by bash:
#
#   . .ci/backends.sh && REQUIRE_BACKENDS=sqlite,postgres,redis npm test
#
# What answers already is used as it is. TEST_POSTGRES_URL and TEST_REDIS_URL, where they are set, are believed
# and nothing is installed for them. It changes neither the options nor the folder of the shell that sources it;
# it leaves functions that begin with _backends_, and TEST_POSTGRES_URL where the default address does not do.

_backends_say() { printf 'backends: %s\n' "$*"; }

_backends_fail() {
  printf 'backends: %s\n' "$*" >&2
  return 1
}

_backends_as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# From a folder that every user may enter: su keeps the current one, and psql would complain of it.
_backends_psql_as_owner() {
  (cd / && _backends_as_root su postgres -c "psql -qX -v ON_ERROR_STOP=1 -p $1")
}

# The locale is what a new cluster takes its encoding from; without one it would be SQL_ASCII.
_backends_install() {
  _backends_say "installing from Debian's packages: $*"
  local log status=0
  log=$(mktemp) || return 1
  {
    _backends_as_root apt-get -qq update &&
      _backends_as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
        apt-get -qq install -y --no-install-recommends "$@"
  } </dev/null >"$log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || cat "$log" >&2
  rm -f "$log"
  [ "$status" -eq 0 ] || _backends_fail "could not install $*"
}

# Whether something listens, asked without any client: bash opens the connection itself.
_backends_port_answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

_backends_can_log_in() {
  PGCONNECT_TIMEOUT=5 psql -w -qAtX -c 'select 1' "$1" </dev/null >/dev/null 2>&1
}

# Prints version, name, port and state of the newest cluster.
_backends_cluster() {
  pg_lsclusters -h | sort -rn | awk 'NR == 1 { print $1, $2, $3, $4 }'
}

_backends_start_postgres() {
  local version name port state
  command -v pg_ctlcluster >/dev/null || _backends_install postgresql || return 1
  read -r version name port state <<<"$(_backends_cluster)"
  if [ -z "$version" ]; then
    version=$(basename "$(dirname "$(dirname "$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)")")")
    _backends_say "creating the PostgreSQL cluster $version/main"
    _backends_as_root env LC_ALL=C.UTF-8 pg_createcluster "$version" main </dev/null >/dev/null || return 1
    read -r version name port state <<<"$(_backends_cluster)"
  fi
  if [ "${state%%,*}" != online ]; then
    _backends_say "starting the PostgreSQL cluster $version/$name on port $port"
    _backends_as_root pg_ctlcluster --skip-systemctl-redirect "$version" "$name" start </dev/null >/dev/null || return 1
  fi
  _backends_postgres_port=$port
}

_backends_postgres() {
  local url=${TEST_POSTGRES_URL:-} password
  if [ -n "$url" ]; then
    _backends_say 'PostgreSQL: TEST_POSTGRES_URL is set'
    return
  fi
  _backends_postgres_port=5432
  if ! _backends_port_answers 5432; then
    _backends_start_postgres || return 1
  fi
  command -v psql >/dev/null || _backends_install postgresql-client || return 1
  url="postgres://postgres@127.0.0.1:$_backends_postgres_port/postgres"
  if ! _backends_can_log_in "$url"; then
    # Debian's default wants a password over TCP, and a fresh cluster has none. The role may make databases and
    # nothing more. Its password is new each time, so that none is written down.
    _backends_say 'PostgreSQL wants a password: giving the role latchkey_test a new one'
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    _backends_psql_as_owner "$_backends_postgres_port" >/dev/null <<SQL || _backends_fail 'cannot make a role; set TEST_POSTGRES_URL' || return 1
do \$\$ begin create role latchkey_test; exception when duplicate_object then null; end \$\$;
alter role latchkey_test login createdb password '$password';
SQL
    url="postgres://latchkey_test:$password@127.0.0.1:$_backends_postgres_port/postgres"
    _backends_can_log_in "$url" || _backends_fail 'PostgreSQL refuses the login; set TEST_POSTGRES_URL' || return 1
  fi
  # The tests know the usual address by themselves.
  [ "$url" = postgres://postgres@127.0.0.1:5432/postgres ] || export TEST_POSTGRES_URL="$url"
  _backends_say "PostgreSQL answers on port $_backends_postgres_port"
}

_backends_redis_answers() {
  local reply
  reply=$({
    exec 3<>/dev/tcp/127.0.0.1/6379 && printf 'PING\r\n' >&3 && read -r -t 1 line <&3 && printf '%s' "${line%$'\r'}"
  } 2>/dev/null)
  [ "$reply" = +PONG ]
}

_backends_redis() {
  if [ -n "${TEST_REDIS_URL:-}" ]; then
    _backends_say 'Redis: TEST_REDIS_URL is set'
    return
  fi
  if ! _backends_port_answers 6379; then
    command -v redis-server >/dev/null || _backends_install redis-server || return 1
  fi
  # Where there is an init system, installing it has started it.
  if ! _backends_port_answers 6379; then
    _backends_say 'starting a Redis of our own on port 6379, which keeps nothing on disk'
    redis-server --bind 127.0.0.1 --port 6379 --save '' --appendonly no --dir /tmp --daemonize yes \
      </dev/null >/dev/null || return 1
  fi
  local attempt
  for attempt in {1..10}; do
    if _backends_redis_answers; then
      _backends_say 'Redis answers on port 6379'
      return
    fi
    sleep 0.3
  done
  _backends_fail "what listens on port 6379 does not answer as Redis ($attempt tries); set TEST_REDIS_URL"
}

_backends_postgres && _backends_redis
