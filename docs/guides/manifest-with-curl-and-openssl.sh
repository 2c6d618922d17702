#!/usr/bin/env bash
# Signs and hands in a manifest with openssl and curl alone.
#
#   manifest-with-curl-and-openssl.sh sign FILE CERT KEY          writes FILE.p7s
#   manifest-with-curl-and-openssl.sh hand-in URL ROOT CERT KEY ORDER FILE [SIGNATURE...]
#
# CERT and KEY are a site operator's, URL is the address of the operators' API
# (https://touchmark.example.com:8444), ROOT the root certificate. FILE ends in
# .jsonl or .csv. Without SIGNATURE it takes FILE.p7s.
set -euo pipefail

sign() { # detached, over the file byte for byte (-binary)
	openssl cms -sign -binary -in "$1" -signer "$2" -inkey "$3" -md sha256 -outform DER -out "$1.p7s"
}

hand_in() {
	local url=${1%/} root=$2 cert=$3 key=$4 order=$5 file=$6 type signatures=() form=()
	shift 6
	case $file in
	*.jsonl) type=application/jsonl ;;
	*.csv) type=text/csv ;;
	*) echo "${0##*/}: $file ends neither in .jsonl nor in .csv" >&2 && exit 1 ;;
	esac
	signatures=("$@")
	((${#signatures[@]})) || signatures=("$file.p7s")
	for s in "${signatures[@]}"; do
		form+=(--form "signature=@$s;type=application/pkcs7-signature")
	done
	curl --silent --show-error --fail-with-body --cacert "$root" --cert "$cert" --key "$key" \
		--form "manifest=@$file;type=$type" "${form[@]}" \
		"$url/api/v1/orders/$order/manifests"
	echo
}

case ${1-} in
sign) shift && sign "${@:1:3}" ;;
hand-in) shift && hand_in "$@" ;;
*) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
esac
