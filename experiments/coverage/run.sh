#!/usr/bin/env bash
# Simulated studies of known truth: do the intervals and tests keep their promise? Minutes of one core.
set -euo pipefail
cd "$(dirname "$0")/../.."
OMP_NUM_THREADS=1 python experiments/coverage/simulate.py
OMP_NUM_THREADS=1 python experiments/coverage/simulate.py few
