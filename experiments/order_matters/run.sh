#!/usr/bin/env bash
# An order task, a bag task and a signal far back, each with the nets that should and should not do it.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${MEDVISION_CACHE:-.medvision}/order_matters
phantom="patients=400 slices=12 size=64 difficulty=0.2"
[ -f "$work/order/manifest.csv" ] || medvision prepare source=phantom task=order seed=11 $phantom output="$work/order"
[ -f "$work/bag/manifest.csv" ] || medvision prepare source=phantom task=lesion seed=12 $phantom output="$work/bag"
[ -f "$work/signal/manifest.csv" ] || python experiments/order_matters/draw_signal.py "$work/signal"

for seed in 0 1 2; do
  for model in rnn mean_pool max_pool; do
    # Of the bag task only the label of the series is told: slices are not supervised.
    medvision train experiment=rnn_phantom name=order_task model=$model seed=$seed threads=1 \
      data.source=null data.manifest="$work/order/manifest.csv"
    medvision train experiment=rnn_phantom name=bag_task model=$model seed=$seed threads=1 \
      data.source=null data.manifest="$work/bag/manifest.csv" data.columns.label=null
  done
  for cell in gru lstm rnn; do
    for init in default orthogonal; do
      medvision train experiment=rnn_signal name=far_signal seed=$seed threads=1 \
        data.manifest="$work/signal/manifest.csv" model.net.cell=$cell model.net.init=$init
    done
  done
done

python experiments/tabulate.py order_matters test 'order: RNN=order_task/*model=rnn*' \
  'order: mean=order_task/*model=mean_pool*' 'order: max=order_task/*model=max_pool*'
