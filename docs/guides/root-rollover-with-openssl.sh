#!/usr/bin/env bash
# Changes the root CA's key, where the CAs' keys are files
# (docs/guides/administrator.md says when to do what; RFC 4210 §4.4).
#
#   root-rollover-with-openssl.sh prepare DIR   makes the new root key and the four certificates
#   root-rollover-with-openssl.sh switch DIR    makes the new root the one in force and re-signs the CAs below it
#   root-rollover-with-openssl.sh finish DIR    takes the four certificates away
#
# DIR is Touchmark's data directory, with the root's key back in keys/root.key. Restart the servers after each step.
set -euo pipefail

(($# == 2)) || { sed -n '2,10s/^# \?//p' "$0" >&2; exit 1; }
cd "$2"
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
four=(ca/root-old.crt ca/root-new.crt ca/root-old-with-new.crt ca/root-new-with-old.crt)

# days is how long a certificate is still good for.
days() { echo $((($(date -d "$(openssl x509 -in "$1" -noout -enddate | cut -d= -f2)" +%s) - $(date +%s)) / 86400)); }

# sign CERT KEY DAYS OUT SIGNER...: certifies what CERT names, with the path
# length that it has, for another key or by another signer. The bytes of the
# subject are CERT's.
sign() {
	local cert=$1 key=$2 for=$3 out=$4 path=2
	shift 4
	openssl x509 -in "$cert" -noout -text | grep -q 'pathlen:0' && path=0
	{
		echo "basicConstraints=critical,CA:TRUE,pathlen:$path"
		echo "keyUsage=critical,keyCertSign,cRLSign"
		echo "subjectKeyIdentifier=$(identifier "$cert" "$key")"
		echo "authorityKeyIdentifier=keyid"
	} >"$work/extensions"
	openssl x509 -x509toreq -in "$cert" -signkey "$key" -out "$work/request" 2>/dev/null
	openssl x509 -req -in "$work/request" -sha384 -days "$for" -set_serial "0x40$(openssl rand -hex 15)" \
		-extfile "$work/extensions" "$@" -out "$out" 2>"$work/errors" || { cat "$work/errors" >&2; return 1; }
}

# identifier keeps the identifier by which certificates below know a key that
# stays, and makes one for a new key.
identifier() {
	if [[ $(openssl x509 -in "$1" -noout -pubkey) == "$(openssl pkey -in "$2" -pubout)" ]]; then
		openssl x509 -in "$1" -noout -ext subjectKeyIdentifier | tail -1 | tr -d ' '
	else
		echo hash
	fi
}

case $1 in
prepare)
	for f in "${four[@]}" keys/root-new.key; do
		[[ ! -e $f ]] || { echo "$f is there already: a roll-over has begun" >&2; exit 1; }
	done
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out keys/root-new.key
	sign ca/root.crt keys/root-new.key 10950 "$work/new" -signkey keys/root-new.key
	sign ca/root.crt keys/root-new.key "$(days ca/root.crt)" "$work/new-with-old" -CA ca/root.crt -CAkey keys/root.key
	sign ca/root.crt keys/root.key "$(days ca/root.crt)" "$work/old-with-new" -CA "$work/new" -CAkey keys/root-new.key
	install -m 644 ca/root.crt ca/root-old.crt
	install -m 644 "$work/new" ca/root-new.crt
	install -m 644 "$work/old-with-new" ca/root-old-with-new.crt
	install -m 644 "$work/new-with-old" ca/root-new-with-old.crt
	;;
switch)
	for name in device-ca factory-ca operator-ca codesign-ca; do
		sign "ca/$name.crt" "keys/$name.key" "$(days "ca/$name.crt")" "$work/$name" -CA ca/root-new.crt -CAkey keys/root-new.key
	done
	for name in device-ca factory-ca operator-ca codesign-ca; do
		install -m 644 "$work/$name" "ca/$name.crt"
	done
	install -m 644 ca/root-new.crt ca/root.crt
	mv keys/root.key keys/root-old.key
	mv keys/root-new.key keys/root.key
	;;
finish)
	rm "${four[@]}"
	;;
*)
	echo "unknown step $1" >&2
	exit 1
	;;
esac
