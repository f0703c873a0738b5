#!/usr/bin/env bash
# Random labels a patient; a split over images against a split over patients; three tosses.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${MEDVISION_CACHE:-.medvision}/random_labels
[ -f "$work/phantom/manifest.csv" ] ||
  medvision prepare source=phantom patients=120 slices=12 size=64 seed=7 output="$work/phantom"
for toss in 0 1 2; do
  python experiments/random_labels/draw_labels.py "$work/phantom/manifest.csv" $toss "$work/toss$toss"
  medvision train experiment=random_labels name=random_labels_images seed=$toss \
    data.manifest="$work/toss$toss/manifest.csv" data.columns.patient=path
  medvision train experiment=random_labels name=random_labels_patients seed=$toss \
    data.manifest="$work/toss$toss/manifest.csv"
done
python experiments/tabulate.py random_labels test 'split over images=random_labels_images/*' \
  'split over patients=random_labels_patients/*'
