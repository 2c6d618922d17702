#!/bin/bash
# Builds the programs of the last commit twice, in two directories, the second
# time with an empty build cache, and compares the bytes.
set -euo pipefail
here=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
for name in a another/b; do
	git clone -q "$here" "$dir/$name"
done
make -s -C "$dir/a" build >/dev/null
GOCACHE=$dir/cache make -s -C "$dir/another/b" build >/dev/null
cd "$dir/a/bin"
for program in *; do
	cmp "$program" "$dir/another/b/bin/$program"
	sha256sum "$program"
done
echo "Both builds gave the same bytes."
