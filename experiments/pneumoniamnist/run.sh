#!/usr/bin/env bash
# Three seeds of cnn_pneumoniamnist on the official split, and the two configurations tried before; then the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
medvision train -m experiment=cnn_pneumoniamnist threads=1 seed=0,1,2
medvision train -m experiment=cnn_pneumoniamnist threads=1 seed=0,1,2 trainer.max_epochs=30 name=pneumoniamnist_30
medvision train -m experiment=cnn_pneumoniamnist threads=1 seed=0,1 trainer.max_epochs=30 tta=0 name=pneumoniamnist_plain
medvision train experiment=cnn_pneumoniamnist threads=1 test=false name=dev_long
for change in model.net.blocks=2 model.mixup=0.2 "augment.noise=0.05 augment.erase=0.1"; do
  # shellcheck disable=SC2086
  medvision train experiment=cnn_pneumoniamnist threads=1 test=false trainer.max_epochs=30 $change name=dev_${change%%=*}
done
python experiments/tabulate.py pneumoniamnist val block:choice \
  '30 epochs, no test-time augmentation=pneumoniamnist_plain/*seed=0*' \
  '30 epochs=pneumoniamnist_30/*seed=0*' '60 epochs=dev_long/*' 'deeper net=dev_model.net.blocks/*' \
  'mixup=dev_model.mixup/*' 'noise and erasing=dev_augment.noise/*'
python experiments/tabulate.py pneumoniamnist test 'goal:auroc>=0.985' 'goal:accuracy>=0.945' \
  'ConvNet from scratch=cnn_pneumoniamnist/*' \
  'tried before: 30 epochs=pneumoniamnist_30/*' \
  'tried first: 30 epochs, no test-time augmentation=pneumoniamnist_plain/*'
