#!/usr/bin/env bash
# Three seeds of cnn_pneumoniamnist on the official split, then the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
medvision train -m experiment=cnn_pneumoniamnist threads=1 seed=0,1,2
python experiments/tabulate.py pneumoniamnist test 'goal:auroc>=0.985' 'goal:accuracy>=0.945' \
  'ConvNet from scratch=cnn_pneumoniamnist/*seed=*'
