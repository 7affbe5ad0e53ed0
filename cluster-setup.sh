#!/usr/bin/env bash
# What every host of a cluster does once, and again when the code has changed: `ray up` runs it where file_mounts has put it,
# beside the wheel and the lock of `make dist`. The file ~/.robustness-sweeper/env is there already.
set -eu
dist=$(dirname "$(readlink -f "$0")")
home=~/.robustness-sweeper
umask 077
chmod 600 ~/.ray/auth_token
if [ -e $home/secrets ]; then
  chmod 600 $home/secrets
  echo ". $home/secrets" >> $home/env
fi

# Every shell gets the environment, also those that read nothing below the first lines of .bashrc.
touch ~/.bashrc
if ! grep -q robustness-sweeper/env ~/.bashrc; then
  { echo '. ~/.robustness-sweeper/env'; cat ~/.bashrc; } > ~/.bashrc.new
  mv ~/.bashrc.new ~/.bashrc
fi

# From the lock, by hash, where it has changed; then this program. Not below the folder that is mounted: Ray would send what
# the head has installed there to the workers.
if ! cmp -s "$dist/requirements-hosts.lock" $home/venv/installed; then
  python3 -m venv --clear $home/venv
  $home/venv/bin/python -m pip install -q --require-hashes -r "$dist/requirements-hosts.lock"
  cp "$dist/requirements-hosts.lock" $home/venv/installed
fi
$home/venv/bin/python -m pip install -q --no-deps --no-index --force-reinstall "$(ls -t "$dist"/*.whl | head -n 1)"
