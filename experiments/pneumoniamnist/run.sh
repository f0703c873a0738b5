#!/usr/bin/env bash
# Three seeds of cnn_pneumoniamnist on the official split, and what was tried first; then the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
medvision train -m experiment=cnn_pneumoniamnist threads=1 seed=0,1,2
medvision train -m experiment=cnn_pneumoniamnist threads=1 seed=0,1 tta=0
python experiments/tabulate.py pneumoniamnist test 'goal:auroc>=0.985' 'goal:accuracy>=0.945' \
  'ConvNet from scratch=cnn_pneumoniamnist/seed=?,threads=1-*' \
  'first tried, without test-time augmentation=cnn_pneumoniamnist/*tta=0*'
