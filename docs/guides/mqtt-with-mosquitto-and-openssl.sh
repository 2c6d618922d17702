#!/usr/bin/env bash
# A device that has nothing of Touchmark's: openssl makes its keys, requests
# and signatures and checks what it gets, mosquitto_pub and mosquitto_sub speak
# MQTT (Debian: mosquitto-clients). docs/guides/mqtt-with-mosquitto-and-openssl.md walks through it.
#
#   mqtt-with-mosquitto-and-openssl.sh enrol DIR HOST PORT ROOT [PRODUCT]   at first power-on: gets the official certificate
#   mqtt-with-mosquitto-and-openssl.sh activate DIR HOST PORT ROOT          says that the official key is there
#   mqtt-with-mosquitto-and-openssl.sh renew DIR HOST PORT ROOT [PRODUCT]   later: a new certificate on the same key
#   mqtt-with-mosquitto-and-openssl.sh rekey DIR HOST PORT ROOT [PRODUCT]   later: a new certificate on a new key
#
# DIR holds the device's files: serial, and bootstrap.key and bootstrap.crt from
# the factory (est-with-curl-and-openssl.sh bootstrap makes them). ROOT is the
# root certificate (PEM), which the device got at the factory. PRODUCT is the
# product's name.
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

# branch WHO: what the key of DIR/WHO.key may publish and read under.
branch() {
	printf 'touchmark/v1/%s' "$(openssl pkey -in "$dir/$1.key" -pubout -outform DER | sha256sum | cut -d' ' -f1)"
}

# server WHO: where the server is, and the certificate of WHO to connect with.
server() {
	connection=(-h "$host" -p "$port" -V "${MQTT_VERSION:-mqttv311}" --cafile "$root" --cert "$dir/$1.crt" --key "$dir/$1.key" -q 1)
}

# exchange TOPIC REQUEST-TOPIC FILE subscribes to a topic first, publishes the
# file second, and prints the first message on the topic.
exchange() {
	local line published=
	exec 3< <(exec stdbuf -oL mosquitto_sub "${connection[@]}" -d -F 'message %X' -C 1 -W 60 -t "$1" 2>&1)
	while read -r line <&3; do
		case $line in
		Subscribed*128*) fail "the server does not let this key read $1" ;;
		Subscribed*)
			[[ $published ]] || mosquitto_pub "${connection[@]}" -t "$2" -f "$3" >"$dir/mosquitto.log" 2>&1 ||
				fail "the request was not taken: $(<"$dir/mosquitto.log")"
			published=1
			;;
		message*)
			basenc --base16 -d <<<"${line#message }"
			return
			;;
		esac
	done
	fail "no answer from $host:$port"
}

# opened FILE: the content of a message that the server signed. The purpose
# sees to it that the signer is a server below ROOT, and not an operator.
opened() {
	openssl cms -verify -binary -inform DER -in "$1" -CAfile "$root" -purpose sslserver 2>"$dir/openssl.log" ||
		fail "the message is not signed by the server: $(<"$dir/openssl.log")"
}

# value FIELD: a field of DIR/answer.json.
value() {
	sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p' "$dir/answer.json"
}

# ask OPERATION WHO [REQUEST] signs a request with the key of WHO, sends it,
# and leaves the answer in DIR/answer.json.
ask() {
	local operation=$1 who=$2 csr=${3-} nonce topic
	nonce=$(openssl rand -hex 16)
	topic=$(branch "$who")
	printf '{"operation":"%s","csr":"%s","nonce":"%s","reply":"%s/reply/%s","product":"%s"}' "$operation" \
		"${csr:+$(base64 -w0 <"$csr")}" "$nonce" "$topic" "$nonce" "$product" >"$dir/request.json"
	openssl cms -sign -binary -nodetach -outform DER -md sha256 -nosmimecap -in "$dir/request.json" \
		-signer "$dir/$who.crt" -inkey "$dir/$who.key" -out "$dir/request.p7"
	server "$who"
	exchange "$topic/reply/$nonce" "$topic/request" "$dir/request.p7" >"$dir/answer.p7"
	opened "$dir/answer.p7" >"$dir/answer.json"
	# The answer to this request, and to no other.
	[[ $(value nonce) == "$nonce" && $(value request) == "$(sha256sum <"$dir/request.p7" | cut -d' ' -f1)" ]] ||
		fail "the answer is to another request"
	case $(value status) in
	200) ;;
	202)
		sed 's/.*"text":"\([^"]*\)".*/\1/' "$dir/answer.json" >&2
		echo "held; ask again after $(value retryAfter) seconds" >&2
		exit 75
		;;
	*)
		cat "$dir/answer.json" >&2
		fail "the server answered $(value status)"
		;;
	esac
}

# keep KEY makes the certificate in DIR/answer.json and its KEY the official
# ones: it chains to the root, is fit for a TLS client, and is on the key.
keep() {
	value certificate | base64 -d | openssl x509 -inform DER -out "$dir/new.crt"
	sed 's/.*"cas":\["\([^]]*\)"\].*/\1/; s/","/\n/g' "$dir/answer.json" | while read -r ca; do
		base64 -d <<<"$ca" | openssl x509 -inform DER
	done >"$dir/cacerts.pem"
	openssl verify -CAfile "$root" -untrusted "$dir/cacerts.pem" -purpose sslclient "$dir/new.crt" >/dev/null
	cmp -s <(openssl x509 -in "$dir/new.crt" -noout -pubkey) <(openssl pkey -in "$1" -pubout) ||
		fail "the certificate is not on the key that was sent"
	[[ $1 == "$dir/official.key" ]] || mv "$1" "$dir/official.key"
	mv "$dir/new.crt" "$dir/official.crt"
	openssl x509 -in "$dir/official.crt" -noout -subject -serial -enddate
}

enrol() {
	local serial
	serial=$(<"$dir/serial")
	# The same key again if an earlier try was cut off: asking twice is asking once.
	[[ -e $dir/wanted.key ]] || new_key "$dir/wanted.key"
	openssl req -new -key "$dir/wanted.key" -subj "/serialNumber=$serial/CN=$serial" -outform DER -out "$dir/request.der"
	ask enrol bootstrap "$dir/request.der"
	keep "$dir/wanted.key"
}

activate() {
	ask activate official
	cat "$dir/answer.json"
	echo
}

# again KEY makes the request that repeats the official certificate's subject
# and subjectAltName, byte for byte, on KEY (RFC 7030 §4.2.2).
again() {
	openssl x509 -x509toreq -in "$dir/official.crt" -signkey "$1" -copy_extensions copyall -ext subjectAltName 2>"$dir/openssl.log" |
		openssl req -outform DER -out "$dir/request.der"
	ask renew official "$dir/request.der"
	keep "$1"
}

renew() { again "$dir/official.key"; }

rekey() {
	[[ -e $dir/wanted.key ]] || new_key "$dir/wanted.key"
	again "$dir/wanted.key"
}

(($# >= 5)) || {
	sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
	exit 2
}
action=$1 dir=$2 host=$3 port=$4 root=$5 product=${6-}
case $action in
enrol | activate | renew | rekey) "$action" ;;
*) fail "unknown action $action" ;;
esac
