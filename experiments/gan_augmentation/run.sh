#!/usr/bin/env bash
# Do generated images help? Three conditions: GAN, generated images, arms over paired seeds, verdict.
set -euo pipefail
cd "$(dirname "$0")/../.."

SEEDS=${SEEDS:-0,1,2,3,4}
KIMG=${KIMG:-120}                 # thousands of images the GAN is shown
PER_CLASS=${PER_CLASS:-2000}      # generated images
BATCH=32
declare -A EPOCHS=([all]=${EPOCHS_ALL:-6} [few]=${EPOCHS_FEW:-40} [rare]=${EPOCHS_RARE:-20})
declare -A DRAWN=([all]="" [few]="normal=100 pneumonia=100" [rare]="normal=1200 pneumonia=60")
declare -A RATIOS=([all]="0.25 0.5 1" [few]="0.25 0.5 1" [rare]="0.25 0.5 1 balance")
CONDITIONS=${CONDITIONS:-all few rare}
LOOKS=3                           # verdicts that are given: intervals are widened for as many

here=experiments/gan_augmentation
work=${MEDVISION_CACHE:-.medvision}/gan_augmentation
runs=${MEDVISION_RUNS:-runs}
source="$work/source/manifest.csv"
[ -f "$source" ] || medvision prepare source=medmnist input=pneumoniamnist/pneumoniamnist.npz \
  columns.patient=path output="$work/source"

arm() { # NAME WORDS…: one arm over the seeds; a finished run is not done again
  local name=$1; shift
  medvision train -m experiment=cnn_gan_augmentation "name=gan_${condition}_$name" seed="$SEEDS" \
    data.manifest="$manifest" data.batch_size=$BATCH trainer.max_epochs="${EPOCHS[$condition]}" "$@"
}

side_by_side() { # each line of stdin is an arm; two at a time
  local name words pids=()
  while read -r name words; do
    # shellcheck disable=SC2086
    arm "$name" $words &
    pids+=($!)
    if [ ${#pids[@]} -eq 2 ]; then wait "${pids[0]}"; wait "${pids[1]}"; pids=(); fi
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}

for condition in $CONDITIONS; do
  manifest="$work/$condition/manifest.csv"
  # shellcheck disable=SC2086
  [ -f "$manifest" ] || python $here/draw.py "$source" "$work/$condition" ${DRAWN[$condition]}
  steps=$(($(grep -c ',train' "$manifest") / BATCH)) # of an epoch of the real images

  # The judge sees what the classical arm sees, under a seed that no arm has.
  medvision train experiment=cnn_gan_augmentation "name=gan_${condition}_judge" seed=100 test=false \
    data.manifest="$manifest" data.batch_size=$BATCH trainer.max_epochs="${EPOCHS[$condition]}"
  medvision train experiment=dcgan_pneumoniamnist "name=gan_${condition}_dcgan" threads=2 model.kimg="$KIMG" \
    data.manifest="$manifest" judge.run="gan_${condition}_judge"
  made="$work/$condition/generated"
  if [ ! -f "$made/manifest.csv" ]; then
    generate() { medvision generate "run=gan_${condition}_dcgan" "per_class=$PER_CLASS" seed=0 output="$made" "$@"; }
    generate || generate allow_ungated=true # a failed gate is stamped on all that follows
  fi

  extra="data.extra=[$made/manifest.csv]"
  {
    echo "real augment=none"
    echo "classical"
    echo "only $extra data.extra_ratio=only"
    for ratio in ${RATIOS[$condition]}; do
      echo "ratio$ratio test=false $extra data.extra_ratio=$ratio" # a candidate: test stays closed
    done
  } | side_by_side

  beside=("other:real, no augmentation=gan_${condition}_real" "other:generated only=gan_${condition}_only")
  candidates=()
  for ratio in ${RATIOS[$condition]}; do candidates+=("$ratio=gan_${condition}_ratio$ratio"); done
  chosen=$(python $here/judge.py choose $condition "${candidates[@]}" \
    "other:classical=gan_${condition}_classical" "${beside[@]}")

  copies="$work/$condition/copies_$chosen"
  [ -f "$copies/manifest.csv" ] || python $here/duplicate.py "$manifest" "$chosen" "$copies"
  arm "duplicated$chosen" "data.extra=[$copies/manifest.csv]" trainer.limit_train_batches=$steps
  for run in "$runs/gan_${condition}_ratio$chosen"/*/; do
    case "$run" in *~*) continue ;; esac # moved aside
    [ -f "$run/predictions/test.csv" ] || medvision evaluate run="$run" split=test
  done
  python $here/judge.py tell $condition $LOOKS card:"$made/card.json" \
    "generated ($chosen)=gan_${condition}_ratio$chosen" "classical=gan_${condition}_classical" \
    "duplicated=gan_${condition}_duplicated$chosen" "${beside[@]}"
done

[ -n "${SKIP_SIMULATION:-}" ] || OMP_NUM_THREADS=1 python $here/simulate.py
python $here/judge.py answer
