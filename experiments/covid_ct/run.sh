#!/usr/bin/env bash
# Three ways to start on COVID-CT, each scored on the official val part, then the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
for experiment in cnn_covid_ct cnn_covid_ct_probe cnn_covid_ct_finetune; do
  medvision train experiment=$experiment threads=1
done
python experiments/tabulate.py covid_ct val 'goal:auroc>=0.75' 'from scratch=cnn_covid_ct/*' \
  'linear probe=cnn_covid_ct_probe/*' 'fine-tuned=cnn_covid_ct_finetune/*'
