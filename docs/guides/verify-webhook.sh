#!/usr/bin/env bash
# Verifies a message that a Touchmark webhook received.
#
#   WEBHOOK_SECRET=whsec_… verify-webhook.sh ID TIMESTAMP SIGNATURE < body
#
# ID, TIMESTAMP and SIGNATURE are the headers webhook-id, webhook-timestamp and
# webhook-signature as they came; the body is read byte by byte as it came.
set -euo pipefail
id=$1 timestamp=$2 signatures=$3

age=$(($(date +%s) - timestamp))
((age < 300 && age > -300)) || { echo "the message is $age seconds old: a replay?" >&2; exit 1; }

key=$(printf %s "${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -vtx1 | tr -d ' \n')
want=$({ printf '%s.%s.' "$id" "$timestamp"; cat; } | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)

for signature in $signatures; do # two of them while the secret is changed
	if [[ $signature == "v1,$want" ]]; then
		echo genuine
		exit 0
	fi
done
echo "the signature is wrong" >&2
exit 1
