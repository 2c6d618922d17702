#!/usr/bin/env bash
# A throw-away PostgreSQL for tests and benchmarks: a fresh cluster in a
# directory of its own, reached through a Unix socket there, with fsync on as
# in production. It touches no cluster of the machine's and takes no port.
#
#   deploy/postgres-test.sh run COMMAND...   starts one, runs the command with
#                                            TOUCHMARK_TEST_POSTGRES set, and
#                                            removes it again
#   deploy/postgres-test.sh start            prints the DSN of a database in
#                                            which tests make their own
#   deploy/postgres-test.sh stop DSN         stops it and removes its directory
#
# Started by root, the server runs as user postgres: it refuses to be root.
set -euo pipefail

fail() {
	echo "postgres-test: $*" >&2
	exit 1
}

bin() {
	local dir
	for dir in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV) $(dirname "$(command -v initdb || echo /)"); do
		if [[ -x $dir/initdb && -x $dir/postgres ]]; then
			echo "$dir"
			return
		fi
	done
	fail "PostgreSQL's server is not installed: run deploy/install-test-deps.sh"
}

as_postgres() { # runs a command as the user that owns the cluster
	if ((EUID == 0)); then
		runuser -u postgres -- "$@"
	else
		"$@"
	fi
}

start() {
	local pg dir major
	pg=$(bin)
	major=$("$pg/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
	((major >= 15)) || fail "PostgreSQL $major is too old: 15 or newer is needed"
	# /var/tmp and not /tmp, which is often memory: fsync shall cost what it
	# costs, unless the caller wants it otherwise.
	dir=$(as_postgres mktemp -d "${TOUCHMARK_POSTGRES_DIR:-/var/tmp}/touchmark-postgres.XXXXXXXX")
	chmod 0700 "$dir"
	(cd / && as_postgres "$pg/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8) >"/dev/null" ||
		fail "initdb failed in $dir"
	cat >>"$dir/data/postgresql.conf" <<-EOF
		listen_addresses = ''
		unix_socket_directories = '$dir'
		max_connections = 200
		shared_buffers = 256MB
		max_wal_size = 4GB
		log_min_messages = warning
	EOF
	(cd / && as_postgres "$pg/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start) >/dev/null || {
		cat "$dir/log" >&2
		fail "the server did not start"
	}
	# The socket's directory goes before the host, which only makes the URL whole.
	echo "postgres://postgres@localhost/postgres?host=$dir"
}

stop() {
	local dir=${1##*host=}
	[[ $dir == */touchmark-postgres.* && -d $dir/data ]] || fail "$1 is not the DSN of a server that this script started"
	(cd / && as_postgres "$(bin)/pg_ctl" -D "$dir/data" -m immediate -w stop) >/dev/null || true
	rm -rf "$dir"
}

run() {
	local dsn status=0
	dsn=$(start)
	trap "stop '$dsn'" EXIT
	trap 'exit 130' INT TERM
	TOUCHMARK_TEST_POSTGRES=$dsn "$@" || status=$?
	return "$status"
}

case ${1-} in
run) shift && (($# > 0)) || fail "run needs a command"; run "$@" ;;
start) start ;;
stop) stop "${2-}" ;;
*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
