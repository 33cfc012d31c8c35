#!/bin/bash
# The build of an image of the tests: source to the build area, hook, commands, settings, archive.
set -e
shopt -s dotglob
input="${OPEN_RUNTIMES_BUILD_INPUT_DIR:-/mnt/code}"
cp -R "$input"/* /usr/local/build
cd /usr/local/build
mkdir runtime-env
echo "made by the image's build" >runtime-env/hook
echo "[open-runtimes] Build command execution started."
bash -c "$1"
echo "[open-runtimes] Build command execution finished."
cd "/usr/local/build/$OPEN_RUNTIMES_OUTPUT_DIRECTORY"
echo "OPEN_RUNTIMES_ENTRYPOINT=$OPEN_RUNTIMES_ENTRYPOINT" >.open-runtimes
tar --exclude code.tar.gz -cf "${OPEN_RUNTIMES_BUILD_OUTPUT_DIR:-/mnt/code}/code.tar.gz" .
echo "[open-runtimes] Build finished."
