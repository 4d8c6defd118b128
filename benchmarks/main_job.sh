#!/usr/bin/env bash
# The runs of docs/results.md on real pictures: RUNS=folder benchmarks/main_job.sh [name ...]
# The data and weights lie in a folder `shared` beside the project; without it nothing is run.
set -euo pipefail
cd "$(dirname "$0")/.."
fieldmark=${FIELDMARK:-.venv/bin/fieldmark}
runs=${RUNS:-runs/results}
data=../shared/data
vit="model.name=vit_tiny_patch16_224 model.pretrained=false"
vit="$vit model.weights=../shared/weights/vit_tiny_patch16_224.augreg_in21k_ft_in1k.pth"

if [ ! -d "$data" ]; then
  echo "main_job: nothing to run: no folder 'shared' beside the project" >&2
  exit 0
fi
mkdir -p "$runs"

train() { # name, then the arguments of `fieldmark train`
  local name=$1
  shift
  echo "$name: fieldmark train $*"
  "$fieldmark" train "$@" --out "$runs/$name" --json > "$runs/$name.json" 2> "$runs/$name.log"
}

run_one() {
  case $1 in
    leaves-frozen) train "$1" $data/leaves/train.csv --recipe leaves-deit-frozen --set $vit ;;
    leaves-deit-frozen) train "$1" $data/leaves/train.csv --recipe leaves-deit-frozen \
      --set model.pretrained=false model.weights=../shared/weights/deit_tiny_patch16_224.fb_in1k.pth ;;
    leaves-finetune) train "$1" $data/leaves/train.csv --recipe leaves-deit-finetune \
      --set $vit optim.epochs=6 ;;
    leaves-cnn) train "$1" $data/leaves/train.csv --recipe leaves-cnn ;;
    anime-frozen) train "$1" $data/anime --recipe leaves-deit-frozen --set $vit ;;
    cifar10-quick) train "$1" $data/cifar10 --recipe quick --set data.image_size=32 ;;
    *) echo "main_job: no run is called '$1'" >&2; exit 2 ;;
  esac
}

if [ $# -eq 0 ]; then
  set -- leaves-frozen leaves-deit-frozen leaves-finetune leaves-cnn anime-frozen cifar10-quick
fi
for name in "$@"; do run_one "$name"; done
