#!/usr/bin/env bash
# Presets side by side at equal compute: 600 chest X-rays of 32x32, three seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."

SEEDS=${SEEDS:-0 1 2}
SECONDS_EACH=${SECONDS_EACH:-120} # of one core, in training steps
PRESETS="dcgan_classic dcgan_hinge_sn dcgan_r3"

here=experiments/dcgan
work=${MEDVISION_CACHE:-.medvision}/dcgan
source="$work/source/manifest.csv"
[ -f "$source" ] || medvision prepare source=medmnist input=pneumoniamnist/pneumoniamnist.npz \
  columns.patient=path output="$work/source"
manifest="$work/600/manifest.csv" # in the proportions of the whole
[ -f "$manifest" ] || python experiments/gan_augmentation/draw.py "$source" "$work/600" normal=155 pneumonia=445

medvision train experiment=cnn_gan_augmentation name=dcgan_judge seed=100 test=false \
  data.manifest="$manifest" trainer.max_epochs=40
pace="$work/pace.txt"             # preset and kimg a line; measured once, while nothing else runs
[ -s "$pace" ] || { python $here/pace.py "$manifest" "$SECONDS_EACH" $PRESETS > "$pace.part" && mv "$pace.part" "$pace"; }

train() { # PRESET KIMG SEED
  medvision train experiment=dcgan_pneumoniamnist name=dcgan_presets model="$1" model.kimg="$2" seed="$3" \
    data.manifest="$manifest" data.epoch_size=4000 judge.run=dcgan_judge threads=1
}
for seed in $SEEDS; do
  while read -r preset kimg; do
    train "$preset" "$kimg" "$seed" &
    if [ "$(jobs -r | wc -l)" -ge 2 ]; then wait -n; fi
  done < "$pace"
done
wait
python $here/compare.py $PRESETS
