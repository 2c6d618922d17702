#!/usr/bin/env bash
# Part of the demo's third act (demo.sh): an order has licences for 8 chips,
# the factory programs 10 of them and copies a licence.
#
#   deploy/demo-licences.sh DIR    DIR is that of a server that runs
set -euo pipefail
dir=$1
bin=${BIN:-bin}
at=$dir/licences
mkdir -p "$at"

told() { # a person need not read it, unless it fails
	"$bin/touchmark" --dir "$@" >>"$at/log" 2>&1
}
trap '[[ $? == 0 ]] || tail -n 20 "$at/log" >&2' EXIT

told "$dir" product update thermostat --licences uid64
told "$dir" order create PO-2001 --product thermostat --site hsinchu --quantity 8 --open
told "$dir" operator add flasher --role rig --site hsinchu --out "$at/flasher"
key=$("$bin/touchmark" --dir "$dir" licence key create thermostat | sed -n 's/^public key *//p')
product=$("$bin/touchmark" --dir "$dir" product show thermostat | sed -n 's/^licences *product \([0-9]*\),.*/\1/p')
"$bin/devicesim" factory --count 10 --block 7 --out "$at/units" >>"$at/log"
sed -n 's/.*"uid":"\([0-9a-f]*\)".*/\1/p' "$at/units/manifest.jsonl" >"$at/uids"

start() { # --stopped N
	echo "    $("$bin/devicesim" start --licences "$at/given" --key "$key" --product "$product" "$@" "$at/units")"
}

echo "  An order has licences for 8 chips; the factory programs 10"
if told "$at/flasher" licence sign PO-2001 --file "$at/uids" --out "$at/given"; then
	echo "    all 10 chips got a licence"
	exit 1
fi
sed -n 's/^/    /; /over quota\|refused/p' "$at/log" | tail -1 | cut -c1-160
start --stopped 2
echo "  Somebody copies a licence to another chip"
cp "$at/given/$(sed -n 1p "$at/uids").lic" "$at/given/$(sed -n 9p "$at/uids").lic"
start --stopped 2
told "$at/flasher" licence sign PO-2001 "$(sed -n 1p "$at/uids")" # the same again is free
head -n 8 "$at/uids" >"$at/programmed"
told "$at/flasher" licence confirm --file "$at/programmed"
