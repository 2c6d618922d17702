#!/usr/bin/env bash
# A device that has nothing of Touchmark's: openssl makes its keys and
# requests and checks what it gets, curl speaks EST (RFC 7030, RFC 8951).
# docs/guides/est-with-curl-and-openssl.md walks through it.
#
#   est-with-curl-and-openssl.sh bootstrap DIR SERIAL     at the factory: makes the bootstrap key and
#                                                         certificate, prints the device's manifest line
#   est-with-curl-and-openssl.sh enrol DIR URL ROOT [PRODUCT]   at first power-on: gets the official certificate
#   est-with-curl-and-openssl.sh code DIR URL ROOT [PRODUCT]    the same with nothing from the factory but a label:
#                                                         DIR/login says SERIAL:CODE
#   est-with-curl-and-openssl.sh renew DIR URL ROOT [PRODUCT]   later: a new certificate on the same key
#   est-with-curl-and-openssl.sh rekey DIR URL ROOT [PRODUCT]   later: a new certificate on a new key
#   est-with-curl-and-openssl.sh serverkey DIR URL ROOT [PRODUCT]   at first power-on, where the device cannot make
#                                                         a key: key and certificate from the server
#   est-with-curl-and-openssl.sh cacerts DIR URL ROOT     the CA certificates
#
# DIR holds the device's files. URL is the server's EST address, for instance
# https://touchmark.example.com:8443; ROOT is the root certificate (PEM), which
# the device got at the factory. PRODUCT is the product's name, as EST label.
#
# It exits 0 if all went well, 75 if the device is held (ask again later), and
# 1 otherwise, with what the server says to the person on the line.
set -euo pipefail

fail() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# new_key FILE
new_key() {
	(umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1")
}

bootstrap() {
	mkdir -p "$dir"
	new_key "$dir/bootstrap.key"
	openssl req -new -x509 -key "$dir/bootstrap.key" -subj "/serialNumber=$1/CN=$1" -days 3650 \
		-out "$dir/bootstrap.crt"
	echo "$1" >"$dir/serial"
	# The key's fingerprint is the SHA-256 of its SubjectPublicKeyInfo.
	printf '{"serial":"%s","bootstrapKey":"%s"}\n' "$1" \
		"$(openssl pkey -in "$dir/bootstrap.key" -pubout -outform DER | sha256sum | cut -d' ' -f1)"
}

# ask NAME CURL-ARGUMENTS... asks the server and puts the body into
# DIR/NAME.body.
ask() {
	local name=$1 status
	shift
	status=$(curl --silent --show-error --cacert "$root" --output "$dir/$name.body" --dump-header "$dir/$name.head" \
		--write-out '%{http_code}' "$@") || fail "no answer from $url"
	case $status in
	200) ;;
	202)
		cat "$dir/$name.body" >&2
		echo "held; ask again after $(sed -n 's/^[Rr]etry-[Aa]fter: *//p' "$dir/$name.head" | tr -d '\r') seconds" >&2
		exit 75
		;;
	*)
		cat "$dir/$name.body" >&2
		fail "the server answered $status"
		;;
	esac
}

# est NAME CURL-ARGUMENTS... asks, and decodes into DIR/NAME.p7. The body is
# base64 whatever the header says (RFC 8951 §3).
est() {
	ask "$@"
	tr -d '\r' <"$dir/$1.body" | base64 -d >"$dir/$1.p7"
}

cacerts() {
	est cacerts "$base/cacerts"
	openssl pkcs7 -inform DER -in "$dir/cacerts.p7" -print_certs -out "$dir/cacerts.pem"
}

# request OPERATION CLIENT KEY sends DIR/request.der, authenticated as CLIENT
# (DIR/CLIENT.crt and .key), and keeps the answer as the official certificate
# of KEY.
request() {
	send est "$1" --cert "$dir/$2.crt" --key "$dir/$2.key"
	keep "$3"
}

# send HOW OPERATION CURL-ARGUMENTS... sends DIR/request.der by ask or est.
send() {
	local how=$1 operation=$2
	shift 2
	base64 <"$dir/request.der" >"$dir/request.b64"
	"$how" answer "$@" \
		--header 'Content-Type: application/pkcs10' --header 'Content-Transfer-Encoding: base64' \
		--data-binary "@$dir/request.b64" "$base/$operation"
}

# keep KEY makes the certificate in DIR/answer.p7 and its KEY the official ones.
keep() {
	openssl pkcs7 -inform DER -in "$dir/answer.p7" -print_certs -out "$dir/new.crt"
	verify "$dir/new.crt" "$1"
	[[ $1 == "$dir/official.key" ]] || mv "$1" "$dir/official.key"
	mv "$dir/new.crt" "$dir/official.crt"
	openssl x509 -in "$dir/official.crt" -noout -subject -serial -enddate
}

# verify CERTIFICATE KEY: the certificate chains to the root, is fit for a
# TLS client, and is on the key.
verify() {
	cacerts
	openssl verify -CAfile "$root" -untrusted "$dir/cacerts.pem" -purpose sslclient "$1" >/dev/null
	cmp -s <(openssl x509 -in "$1" -noout -pubkey) <(openssl pkey -in "$2" -pubout) ||
		fail "the certificate is not on the key that was sent"
}

enrol() {
	local serial
	serial=$(<"$dir/serial")
	# The same key again if an earlier try was cut off: asking twice is asking once.
	[[ -e $dir/wanted.key ]] || new_key "$dir/wanted.key"
	openssl req -new -key "$dir/wanted.key" -subj "/serialNumber=$serial/CN=$serial" -outform DER -out "$dir/request.der"
	request simpleenroll bootstrap "$dir/wanted.key"
}

# code asks with HTTP Basic alone. The code goes past the command line, which
# everybody on the machine can read.
code() {
	local login serial
	login=$(<"$dir/login")
	serial=${login%:*}
	[[ -e $dir/wanted.key ]] || new_key "$dir/wanted.key"
	openssl req -new -key "$dir/wanted.key" -subj "/serialNumber=$serial/CN=$serial" -outform DER -out "$dir/request.der"
	send est simpleenroll --config <(printf 'user = "%s"\n' "$login")
	keep "$dir/wanted.key"
}

# serverkey asks with the bootstrap key, which the answer has nothing to do
# with. The answer has two parts, first the private key, then the certificate.
serverkey() {
	local serial
	serial=$(<"$dir/serial")
	openssl req -new -key "$dir/bootstrap.key" -subj "/serialNumber=$serial/CN=$serial" -outform DER -out "$dir/request.der"
	(umask 077 && send ask serverkeygen --cert "$dir/bootstrap.crt" --key "$dir/bootstrap.key" && part 1 | openssl pkey -inform DER -out "$dir/wanted.key")
	part 2 >"$dir/answer.p7"
	rm "$dir/answer.body"
	keep "$dir/wanted.key"
}

# part NUMBER decodes a part of DIR/answer.body (RFC 2046 §5.1): what stands
# between the empty line under its header and the next boundary.
part() {
	tr -d '\r' <"$dir/answer.body" |
		awk -v part="$1" '/^--/ { n++; body = 0; next } n == part && body; n == part && /^$/ { body = 1 }' | base64 -d
}

# again KEY makes the request that repeats the official certificate's subject
# and subjectAltName, byte for byte, on KEY (RFC 7030 §4.2.2).
again() {
	openssl x509 -x509toreq -in "$dir/official.crt" -signkey "$1" -copy_extensions copyall -ext subjectAltName 2>"$dir/openssl.log" |
		openssl req -outform DER -out "$dir/request.der"
	request simplereenroll official "$1"
}

renew() { again "$dir/official.key"; }

rekey() {
	[[ -e $dir/wanted.key ]] || new_key "$dir/wanted.key"
	again "$dir/wanted.key"
}

(($# >= 3)) || {
	sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
	exit 2
}
action=$1 dir=$2
case $action in
bootstrap) bootstrap "$3" ;;
enrol | code | renew | rekey | serverkey | cacerts)
	url=${3%/} root=${4:?ROOT is missing} product=${5-}
	base=$url/.well-known/est${product:+/$product}
	"$action"
	;;
*) fail "unknown action $action" ;;
esac
