#!/usr/bin/env bash
# The demo's third act (demo.sh): firmware is signed by keys of the server
# after two people agreed, and installed by a fleet, which refuses what is
# forged or older. Where openssl is installed, which makes the device's key, one
# image is for a single device.
#
#   deploy/demo-release.sh DIR    DIR is that of a server that runs
set -euo pipefail
dir=$1
bin=${BIN:-bin}
at=$dir/firmware
mkdir -p "$at"

told() { # a person need not read it, unless it fails
	"$bin/touchmark" --dir "$@" >>"$at/log" 2>&1
}
trap '[[ $? == 0 ]] || tail -n 20 "$at/log" >&2' EXIT

for who in erna berta carla; do
	told "$dir" operator add "$who" --role release-engineer --out "$at/$who"
done
told "$dir" firmware key create thermostat-test --product thermostat --stage test
told "$dir" firmware key create thermostat-2027 --product thermostat --stage production
told "$dir" firmware policy thermostat --approvals 2
"$bin/touchmark" --dir "$dir" firmware key show thermostat-2027 | sed -n '/BEGIN PUBLIC KEY/,/END PUBLIC KEY/p' >"$at/bootloader.pem"
"$bin/devicesim" factory --count 20 --out "$at/units" >>"$at/log"

sign() { # VERSION STAGE FILE [--out FILE]
	told "$at/erna" firmware sign "${@:3}" --format mcuboot --set pad-header=true --stage "$2" --release "thermostat@$1"
}

# build makes a release as a build server does: draft, image, SBOM and
# provenance, two approvals, signature, publication.
build() { # VERSION COUNTER [--set NAME=VALUE]
	local release=thermostat@$1 file=$at/$1.bin proposal
	head -c 65536 /dev/urandom >"$file"
	told "$at/erna" firmware release create "$release" --counter "$2" --support-end 2031-12-31
	sign "$1" production "$file" "${@:3}" || [[ $? == 75 ]] # it waits for approvals
	echo '{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}' >"$at/sbom.json"
	printf '{"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "%s", "digest": {"sha256": "%s"}}], "predicateType": "https://slsa.dev/provenance/v1", "predicate": {}}' \
		"$1.bin" "$(sha256sum <"$file" | cut -d' ' -f1)" >"$at/provenance.json"
	told "$at/erna" firmware release attach "$release" "$at/sbom.json"
	told "$at/erna" firmware release attach "$release" "$at/provenance.json"
	told "$at/erna" firmware release submit "$release" --note 'for the demo'
	proposal=$("$bin/touchmark" --dir "$at/erna" firmware release show "$release" --json | sed -n 's/.*"proposal": \([0-9]*\).*/\1/p')
	if told "$at/erna" approval approve "$proposal" --yes; then
		echo "    erna could approve her own release"
		return 1
	fi
	told "$at/berta" approval approve "$proposal" --yes
	told "$at/carla" approval approve "$proposal" --yes
	sign "$1" production "$file" "${@:3}"
	told "$at/erna" firmware release publish "$release"
	echo "    thermostat@$1, security counter $2: built by erna, approved by berta and carla, signed, published"
}

offer() { # NAME FILE [--units DIR] [--decrypt KEY] [--refused REASON]
	local units=$at/units
	if [[ ${3-} == --units ]]; then
		units=$4
		set -- "$1" "$2" "${@:5}"
	fi
	echo "    $1: $("$bin/devicesim" update --key "$at/bootloader.pem" "${@:3}" "$units" "$2")"
}

# encrypted has one unit in service get an image that no other can open.
encrypted() { # SERIAL
	local who
	for who in mine other; do
		openssl genpkey -algorithm X25519 -out "$at/$who.pem"
		"$bin/devicesim" factory --count 1 --out "$at/$who" >>"$at/log"
	done
	openssl pkey -in "$at/mine.pem" -pubout -out "$at/mine.pub.pem"
	told "$at/erna" firmware recipient add "$at/mine.pub.pem" --product thermostat --device "$1"
	build 1.3.0 2 --set encrypt=aes256
	told "$at/erna" firmware wrap thermostat@1.3.0 --device "$1" --in "$at/1.3.0.bin.encrypted" --out "$at/wrapped.bin"
	offer "$1" "$at/wrapped.bin" --units "$at/mine" --decrypt "$at/mine.pem"
	offer another "$at/wrapped.bin" --units "$at/other" --decrypt "$at/other.pem" --refused sealed
}

echo "  Two releases; the second closes a hole"
build 1.0.0 1
build 1.1.0 2
echo "  Devices install them"
offer 1.0.0 "$at/1.0.0.bin.signed"
offer 1.1.0 "$at/1.1.0.bin.signed"
echo "  Somebody sends the old release again, and one that is signed with the key for test"
offer downgraded "$at/1.0.0.bin.signed" --refused downgrade
told "$at/erna" firmware release create thermostat@1.2.0 --counter 2 --support-end 2031-12-31
sign 1.2.0 test "$at/1.1.0.bin" --out "$at/forged.bin"
offer forged "$at/forged.bin" --refused forged
if command -v openssl >/dev/null; then
	echo "  An image is encrypted, and its key wrapped for one device"
	encrypted TH-000000
fi
