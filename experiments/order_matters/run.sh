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

contrast() { python experiments/contrast.py order_matters "$@"; }
contrast order auroc note:'order task' 'RNN=order_task/*model=rnn*' 'mean pooling=order_task/*model=mean_pool*' \
  'max pooling=order_task/*model=max_pool*'
contrast bag auroc note:'bag task' 'RNN=bag_task/*model=rnn*' 'mean pooling=bag_task/*model=mean_pool*' \
  'max pooling=bag_task/*model=max_pool*'
contrast signal auroc note:'signal at slice 1 of 64' 'plain RNN, orthogonal=far_signal/*cell=rnn*init=orthogonal*' \
  'plain RNN, default=far_signal/*cell=rnn*init=default*' 'GRU, orthogonal=far_signal/*cell=gru*init=orthogonal*' \
  'GRU, default=far_signal/*cell=gru*init=default*' 'LSTM, orthogonal=far_signal/*cell=lstm*init=orthogonal*' \
  'LSTM, default=far_signal/*cell=lstm*init=default*'
contrast answer
