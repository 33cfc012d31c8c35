#!/bin/bash
# The start of an image of the tests: code to src/function, settings, then the server (contract: runtime-contract 7).
set -e
shopt -s dotglob
if [ -f /mnt/code/.extracted ]; then
	for item in /mnt/code/*; do
		[ "${item##*/}" = .extracted ] || ln -s "$item" /usr/local/server/src/function/
	done
else
	tar -xf /mnt/code/code.tar.gz -C /usr/local/server/src/function
fi
set -o allexport
. /usr/local/server/src/function/.open-runtimes
set +o allexport
cd /usr/local/server
if [ -d src/function/runtime-env ]; then
	cp helpers/start.sh src/function/runtime-env/written-at-start
fi
echo "Runtime started."
mkdir -p /mnt/telemetry
echo "startup=0.001" >>/mnt/telemetry/timings.txt
bash -c "$1" 2>&1 | while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done
exit "${PIPESTATUS[0]}"
