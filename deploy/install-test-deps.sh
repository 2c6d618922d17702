#!/usr/bin/env bash
# Installs what the tests and the cgo build need on Debian or Ubuntu: a C
# compiler, OpenSSL, GnuTLS, curl, SoftHSM2, PostgreSQL 15 or newer, Redis, software TPMs,
# systemd (for its check of units), RAUC, SWUpdate, osslsigncode, sbsigntool, kmod, the kernel's sign-file, U-Boot's mkimage, node with npm, lego, certbot, and Mosquitto 2 with what its plug-ins need. What is there already is left alone, so a second run
# does nothing and takes no time.
#
# Debian's packages of PostgreSQL, Redis and Mosquitto start servers of their own where
# there is systemd; no test uses them (see postgres-test.sh).
#
# A verifier of ML-DSA and a TUF client come by npm into the directories of the tests that run them.
#
# The packages come from the machine's own apt sources and npm registry. On other systems,
# install the commands that the script names by hand.
set -euo pipefail

pg_bin() { # where PostgreSQL's server programs are
	local dir
	for dir in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV) $(dirname "$(command -v initdb || echo /)"); do
		if [[ -x $dir/initdb && -x $dir/postgres ]]; then
			echo "$dir"
			return 0
		fi
	done
	return 1
}

sign_file_package() { # Debian names it after the kernel's version; the oldest is the release's own
	apt-cache pkgnames linux-kbuild- 2>/dev/null | sort -V | head -1 | grep . || echo linux-kbuild-6.1
}

softhsm() { command -v softhsm2-util >/dev/null; }

node_verifiers() { # package-lock.json says which
	local dir
	for dir in "$(dirname "${BASH_SOURCE[0]}")"/../firmware-sign/*/testdata/node; do
		if [[ ! $dir/node_modules/.package-lock.json -nt $dir/package-lock.json ]]; then
			npm --prefix "$dir" ci --ignore-scripts --no-audit --no-fund >&2
		fi
	done
}

missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v git >/dev/null || missing+=(git)
command -v openssl >/dev/null || missing+=(openssl)
command -v curl >/dev/null || missing+=(curl)
command -v ocsptool >/dev/null || missing+=(gnutls-bin)
softhsm || missing+=(softhsm2)
pg_bin >/dev/null || missing+=(postgresql)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v swtpm >/dev/null || missing+=(swtpm)
command -v swtpm_localca >/dev/null || missing+=(swtpm-tools)
[[ -x /usr/sbin/mosquitto ]] || missing+=(mosquitto)
command -v mosquitto_rr >/dev/null || missing+=(mosquitto-clients)
[[ -e /usr/include/mosquitto_plugin.h ]] || missing+=(mosquitto-dev)
[[ -e /usr/include/mosquitto.h ]] || missing+=(libmosquitto-dev)
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v rauc >/dev/null || missing+=(rauc)
command -v swupdate >/dev/null || missing+=(swupdate)
command -v mksquashfs >/dev/null || missing+=(squashfs-tools) # for rauc
command -v mkimage >/dev/null || missing+=(u-boot-tools)
command -v dtc >/dev/null || missing+=(device-tree-compiler) # for mkimage
command -v osslsigncode >/dev/null || missing+=(osslsigncode)
command -v sbverify >/dev/null || missing+=(sbsigntool)
[[ -x /sbin/modinfo ]] || missing+=(kmod)
compgen -G '/usr/lib/linux-kbuild-*/scripts/sign-file' >/dev/null || missing+=("$(sign_file_package)")
command -v lego >/dev/null || missing+=(lego)
command -v certbot >/dev/null || missing+=(certbot)
[[ -e /usr/include/openssl/x509.h ]] || missing+=(libssl-dev)
[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)

if ((${#missing[@]} == 0)); then
	node_verifiers
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "install-test-deps: there is no apt-get here. Install by hand what Debian calls: ${missing[*]}" >&2
	exit 1
fi
as_root=()
if ((EUID != 0)); then
	if ! command -v sudo >/dev/null; then
		echo "install-test-deps: run as root: apt-get install ${missing[*]}" >&2
		exit 1
	fi
	as_root=(sudo)
fi
echo "install-test-deps: installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update -q </dev/null >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
	apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null >&2
node_verifiers
