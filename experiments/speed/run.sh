#!/usr/bin/env bash
# The bench with its peers, each in an environment of its own: bash experiments/speed/run.sh [PART …]
# PYTHON has medvision installed. A peer whose packages cannot be had is left out of the table.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
folder=${MEDVISION_CACHE:-.medvision}/bench
mkdir -p "$folder"

environment() {  # NAME PACKAGES…: print the Python of an environment, made once
  local place=$folder/$1; shift
  if [ ! -e "$place/ready" ]; then
    "$python" -m venv "$place" && "$place/bin/python" -m pip install --quiet "$@" >&2 || return 0
    touch "$place/ready"
  fi
  echo "$place/bin/python"
}

export MEDVISION_KERAS=${MEDVISION_KERAS:-$(environment keras tensorflow-cpu==2.21.0 pillow scipy)}
export MEDVISION_MONAI=${MEDVISION_MONAI:-$(environment monai monai==1.6.1 pytorch-lightning==2.6.6 \
  torchvision pillow)}
"$python" "$here/bench.py" "$folder" "$@"
"$python" "$here/page.py" "$folder"
