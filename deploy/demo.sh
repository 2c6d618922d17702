#!/usr/bin/env bash
# A factory's day on a server of its own, in a temporary directory and on
# free ports of this machine: `make demo`. The exit status is 0 only if every
# device ended as it should.
#
#   deploy/demo.sh [--keep] [devicesim demo's flags, e.g. --quantity 2000]
#
# --keep leaves the server running and tells how to look around.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-bin} # where the programs are

keep=
if [[ ${1-} == --keep ]]; then
	keep=yes
	shift
fi

free_port() { # one that nobody answers on
	local port
	while port=$((20000 + RANDOM % 30000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
	echo "$port"
}

ready() { # the server says so itself
	(
		exec 3<>"/dev/tcp/127.0.0.1/$ops"
		printf 'GET /readyz HTTP/1.0\r\n\r\n' >&3
		read -r _ status _ <&3
		[[ $status == 200 ]]
	) 2>/dev/null
}

for program in touchmark devicesim touchmark-agent; do
	[[ -x $bin/$program ]] || { echo "demo: $bin/$program is not there: run \`make demo\` or \`make programs\`" >&2 && exit 1; }
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/touchmark-demo.XXXXXX")
pid= tpm=
stop() {
	[[ -z $tpm ]] || kill "$tpm" 2>/dev/null || true
	if [[ -n $pid ]]; then
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
		pid=
	fi
}
clean() {
	stop
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM

est=$(free_port) mqtt=$(free_port) api=$(free_port) status_port=$(free_port) ops=$(free_port)
echo "Making a Touchmark in $dir …"
"$bin/touchmark" init "$dir" --name 'Touchmark Demo' \
	--est "127.0.0.1:$est" --mqtt "127.0.0.1:$mqtt" --api "127.0.0.1:$api" \
	--status "127.0.0.1:$status_port" --status-url "http://127.0.0.1:$status_port" --ops "127.0.0.1:$ops" >/dev/null

echo "Starting the server …"
# In a process group of its own, so that Ctrl-C in the terminal leaves a kept
# server alone.
set -m
"$bin/touchmark" serve --dir "$dir" </dev/null >"$dir/server.log" 2>&1 &
pid=$!
set +m
for _ in {1..300}; do
	ready && break
	if ! kill -0 "$pid" 2>/dev/null; then
		cat "$dir/server.log" >&2
		echo "demo: the server did not start" >&2
		exit 1
	fi
	sleep 0.1
done

status=0
"$bin/devicesim" demo --dir "$dir" --est "https://127.0.0.1:$est" --mqtt "127.0.0.1:$mqtt" --api "https://127.0.0.1:$api" "$@" || status=$?

# A gateway with a TPM (a software one), kept by touchmark-agent: it has no
# bootstrap key; its record lists the TPM's endorsement key.
gateway() {
	local at=$dir/gateway
	mkdir -p "$at/tpm"
	swtpm_setup --tpm2 --tpmstate "$at/tpm" --createek --overwrite >"$at/tpm.log" 2>&1
	swtpm socket --tpm2 --tpmstate "dir=$at/tpm" --server "type=unixio,path=$at/tpm.sock" --flags not-need-init,startup-clear >>"$at/tpm.log" 2>&1 &
	tpm=$!
	for _ in {1..100}; do
		[[ -S $at/tpm.sock ]] && break
		sleep 0.1
	done
	cat >"$at/agent.yaml" <<-EOF
		serial: GW-000001
		product: gateway
		server: https://127.0.0.1:$est
		root: $dir/ca/root.crt
		dir: state
		keys: tpmkms:device=$at/tpm.sock
		proof: tpm
	EOF
	local cli=("$bin/touchmark" --dir "$dir") agent=("$bin/touchmark-agent")
	{
		"${cli[@]}" product create gateway --proof tpm --attested --validity 90d
		"${cli[@]}" order create PO-GATEWAY --product gateway --site hsinchu --quantity 1 --open
		"${cli[@]}" operator add mei --role site-operator --site hsinchu --out "$at/mei"
		"${agent[@]}" bootstrap --config "$at/agent.yaml" >"$at/manifest.jsonl"
		"$bin/touchmark" --dir "$at/mei" manifest upload PO-GATEWAY "$at/manifest.jsonl" --sign
		"${agent[@]}" once --config "$at/agent.yaml"
	} >"$at/log" 2>&1 || {
		cat "$at/log" >&2
		return 1
	}
	"${agent[@]}" status --config "$at/agent.yaml"
}

echo
if command -v swtpm swtpm_setup >/dev/null; then
	echo "A gateway enrols by its TPM, in which its key was made and stays:"
	gateway || status=1
else
	echo "There is no swtpm (Debian's swtpm and swtpm-tools) on this machine, so no gateway shows how it enrols by its TPM."
fi

echo
echo "Firmware is released:"
BIN=$bin deploy/demo-release.sh "$dir" || status=1
echo
echo "Firmware runs on licensed chips alone:"
BIN=$bin deploy/demo-licences.sh "$dir" || status=1

echo
if [[ -z $keep ]]; then
	echo "Stopping the server in order; it publishes its last checkpoint."
	stop
fi
echo "The auditor checks the whole log, and everything in the database against it:"
"$bin/touchmark" --dir "$dir" audit verify || status=1

if [[ -n $keep ]]; then
	trap - EXIT
	disown "$pid"
	cat <<-EOF

		The server is still running. Look around:

		  export TOUCHMARK_DIR=$dir
		  $bin/touchmark order list
		  $bin/touchmark device list --state active --limit 5
		  $bin/touchmark evidence list
		  $bin/touchmark registration list --verdict refused
		  $bin/touchmark device history TH-000001

		With curl and openssl alone:

		  curl -s --cacert $dir/ca/root.crt --cert $dir/admin.crt --key $dir/admin.key https://127.0.0.1:$api/api/v1/orders
		  curl -s --cacert $dir/ca/root.crt https://127.0.0.1:$api/audit/checkpoint
		  curl -s --cacert $dir/ca/root.crt https://127.0.0.1:$est/.well-known/est/cacerts | base64 -d | openssl pkcs7 -inform DER -print_certs
		  curl -s http://127.0.0.1:$ops/metrics | grep ^touchmark_

		Its log is $dir/server.log. When you are done:

		  kill $pid && rm -r $dir
	EOF
fi
exit "$status"
