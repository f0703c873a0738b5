#!/usr/bin/env bash
# Five diagnoses on ACDC, patient-level folds as given: the RNN beside pooling of the same encoder, from scratch
# and with an encoder that was taught the sizes of the heart's parts; then the tables. MEDVISION_DATA holds acdc/.
set -euo pipefail
cd "$(dirname "$0")/../.."
sizes=${MEDVISION_CACHE:-.medvision}/acdc_sizes.csv
python experiments/acdc/mark_sizes.py "$sizes"
folds=data.fold=0,1,2,3

medvision train -m experiment=cnn_acdc_sizes data.source.input="$sizes" $folds
for model in rnn mean_pool max_pool; do
  medvision train -m experiment=rnn_acdc $folds model=$model
done
for model in rnn mean_pool; do
  medvision train -m experiment=rnn_acdc_sizes data.source.input="$sizes" $folds model=$model
done

python experiments/contrast.py acdc scratch accuracy 'goal:accuracy>=0.80' note:'from scratch, end to end' \
  'RNN=rnn_acdc/*model=rnn*' 'mean pooling=rnn_acdc/*model=mean_pool*' 'max pooling=rnn_acdc/*model=max_pool*'
python experiments/contrast.py acdc sizes accuracy 'goal:accuracy>=0.80' note:'encoder taught sizes first' \
  'RNN=rnn_acdc_sizes/*model=rnn*' 'mean pooling=rnn_acdc_sizes/*model=mean_pool*'
python experiments/acdc/throughput.py
python experiments/contrast.py acdc answer
