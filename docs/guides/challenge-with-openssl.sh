#!/usr/bin/env bash
# Answers a challenge with openssl alone, as a device's firmware may do it:
#   challenge-with-openssl.sh KEYFILE NONCE
# prints the signature in base64. KEYFILE holds the official private key in
# PEM (P-256 or RSA; P-384 takes sha384), NONCE is the challenge's.
set -euo pipefail
key=$1 nonce=$2
message=$(mktemp)
trap 'rm -f "$message"' EXIT

{
  printf 'Touchmark proof of possession, version 1\0'
  # base64url without padding, 32 bytes
  printf '%s=' "$nonce" | tr -- '-_' '+/' | openssl base64 -d -A
  openssl pkey -in "$key" -pubout -outform DER | openssl dgst -sha256 -binary
} > "$message"
[ "$(wc -c < "$message")" = 105 ] || { echo "the nonce is not 32 bytes in base64url" >&2; exit 1; }

openssl dgst -sha256 -sign "$key" "$message" | openssl base64 -A
echo
