#!/usr/bin/env bash
# ADM on ImageNet 256x256, as in Table 1 of the paper (arXiv 2403.17377): 50,000 samples by DDPM with 250 steps.
#
#                                       FID expected
#   unconditional   no guidance         26.21
#   unconditional   SAG, s = 0.5        20.31
#   unconditional   PAG, s = 1          16.23
#   class labels    no guidance         10.94
#   class labels    SAG, s = 0.2         9.41
#   class labels    PAG, s = 1           6.32
#
# Those of PAG and without guidance are from two reading notes on the paper that agree, not from the paper itself. Those of
# self-attention guidance (SAG, arXiv 2210.00939) are from its authors' repository, whose layer and blur are taken here; but
# it clamps the predicted image ahead of the blur, which is not done here.
#
#   runs/adm_imagenet256.sh             everything; killed at any moment, the same command goes on where it was
#   runs/adm_imagenet256.sh --dry-run   print the commands
#   NUM=8 STEPS=2 runs/adm_imagenet256.sh       try it
#
# Settings, from the environment:
#   MODELS      folder of 256x256_diffusion_uncond.pt and 256x256_diffusion.pt (github.com/openai/guided-diffusion,
#               "Download pre-trained models"); 256x256_classifier.pt is for classifier guidance, which no row here has
#   UNCOND      folder of the converted unconditional model (else it is converted from MODELS)
#   COND        folder of the converted class-conditional model (likewise)
#   OUT         folder of the results
#   EVALUATOR   OpenAI's evaluations/evaluator.py of the same repository, with its requirements installed
#   REFERENCE   its reference batch, VIRTUAL_imagenet256_labeled.npz
#   GPUS        how many share the work, one shard each; 0 is a CPU
#   BATCH, NUM, STEPS, SEED, LAYERS, ROWS, SAG, SAG_LAYER, SAG_SCALE, PAG, PYTHON: see below
set -euo pipefail

MODELS=${MODELS:-models}
OUT=${OUT:-results/adm_imagenet256}
UNCOND=${UNCOND:-$OUT/models/uncond}
COND=${COND:-$OUT/models/cond}
EVALUATOR=${EVALUATOR:-}
REFERENCE=${REFERENCE:-VIRTUAL_imagenet256_labeled.npz}
BATCH=${BATCH:-64}
NUM=${NUM:-50000}
STEPS=${STEPS:-250}
SEED=${SEED:-0}
# The authors' input_blocks.14.1, input_blocks.16.1, input_blocks.17.1 and middle_block.1.
LAYERS=${LAYERS:-input_blocks.14.1,input_blocks.16.1,input_blocks.17.1,middle_block.1}
ROWS=${ROWS:-uncond-none uncond-sag uncond-pag cond-none cond-sag cond-pag}
# SAG with a blur for images of this size (pag sample adm --perturbation), the authors' layer output_blocks.2.1, and their
# scale: that of each row, unless SAG_SCALE is set.
SAG=${SAG:-sag_pixels}
SAG_LAYER=${SAG_LAYER:-output_blocks.2.1}
SAG_SCALE=${SAG_SCALE:-}
PAG=${PAG:-pag}
PYTHON=${PYTHON:-python}

DRY_RUN=
case ${1:-} in
  '') ;;
  --dry-run) DRY_RUN=1 ;;
  *)
    echo "usage: [SETTING=value ...] $0 [--dry-run]" >&2
    exit 2
    ;;
esac

if [ -z "${GPUS:-}" ]; then
  GPUS=$(nvidia-smi --list-gpus 2>/dev/null | wc -l) || GPUS=0
fi
SHARDS=$((GPUS > 1 ? GPUS : 1))

say() { printf '%s\n' "$*" >&2; }

run() {
  if [ -n "$DRY_RUN" ]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# The processes of the shards end with this one.
pids=()
stop() {
  trap - INT TERM
  if [ ${#pids[@]} -gt 0 ]; then
    # Not INT, which processes in the background of a script ignore.
    kill "${pids[@]}" 2>/dev/null || true
    wait
  fi
  say "stopped: the same command goes on"
  exit 130
}
trap stop INT TERM

convert() { # CHECKPOINT FOLDER
  if [ -f "$2/model_index.json" ]; then
    return
  fi
  if [ -z "$DRY_RUN" ] && [ ! -f "$MODELS/$1" ]; then
    say "error: there is no $MODELS/$1, and no converted model in $2: set MODELS, or UNCOND and COND"
    exit 2
  fi
  run "$PAG" convert adm "$MODELS/$1" --out "$2"
}

sample() { # NAME MODEL OPTIONS...
  local file=$OUT/$1.npz model=$2 shard pid failed=0
  shift 2
  local command=("$PAG" sample adm "$model" --out "$file" --num "$NUM" --steps "$STEPS" --seed "$SEED" --sampler ddpm
    --batch "$BATCH" "$@")
  if [ "$SHARDS" -eq 1 ]; then
    if [ "$GPUS" -eq 0 ]; then
      command+=(--device cpu)
    fi
    run "${command[@]}"
    return
  fi
  pids=()
  for ((shard = 0; shard < SHARDS; shard++)); do
    if [ -n "$DRY_RUN" ]; then
      printf 'CUDA_VISIBLE_DEVICES=%s ' "$shard"
      run "${command[@]}" --shards "$SHARDS" --shard "$shard"
    else
      CUDA_VISIBLE_DEVICES=$shard "${command[@]}" --shards "$SHARDS" --shard "$shard" &
      pids+=($!)
    fi
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    wait "$pid" || failed=1
  done
  pids=()
  if [ "$failed" -ne 0 ]; then
    say "error: a shard of $file failed; the same command goes on"
    exit 1
  fi
  # The last shard has merged all, unless two ended at the same time, or one was killed while it did.
  if [ -z "$DRY_RUN" ] && [ ! -f "$file" ]; then
    "$PAG" sample merge "$file"
  fi
}

evaluate() { # NAME
  local report=$OUT/$1.txt
  if [ -z "$EVALUATOR" ] || [ -s "$report" ]; then
    return
  fi
  if [ -n "$DRY_RUN" ]; then
    run "$PYTHON" "$EVALUATOR" "$REFERENCE" "$OUT/$1.npz"
    return
  fi
  "$PYTHON" "$EVALUATOR" "$REFERENCE" "$OUT/$1.npz" | tee "$report.partial" >&2
  mv "$report.partial" "$report"
}

expected() { # NAME
  case $1 in
    uncond-none) echo 26.21 ;;
    uncond-sag) echo 20.31 ;;
    uncond-pag) echo 16.23 ;;
    cond-none) echo 10.94 ;;
    cond-sag) echo 9.41 ;;
    cond-pag) echo 6.32 ;;
    *) echo - ;;
  esac
}

row() { # NAME
  local name=$1 model=$COND options
  case $name in
    uncond-*)
      model=$UNCOND
      convert 256x256_diffusion_uncond.pt "$model"
      ;;
    cond-*) convert 256x256_diffusion.pt "$model" ;;
    *)
      say "error: no row $name"
      exit 2
      ;;
  esac
  case $name in
    *-none) options=(--pag-scale 0) ;;
    *-pag) options=(--pag-scale 1 --layers "$LAYERS") ;;
    uncond-sag) options=(--pag-scale "${SAG_SCALE:-0.5}" --perturbation "$SAG" --layers "$SAG_LAYER") ;;
    cond-sag) options=(--pag-scale "${SAG_SCALE:-0.2}" --perturbation "$SAG" --layers "$SAG_LAYER") ;;
    *)
      say "error: no row $name"
      exit 2
      ;;
  esac
  say "$name"
  sample "$name" "$model" "${options[@]}"
  evaluate "$name"
}

if [ -z "$DRY_RUN" ]; then
  mkdir -p "$OUT"
fi
for name in $ROWS; do
  row "$name"
done

if [ -n "$DRY_RUN" ]; then
  exit
fi
printf '%-14s %-14s %s\n' row "FID expected" "FID here ($NUM samples, $STEPS steps)"
for name in $ROWS; do
  here=$(sed -n 's/^FID: *//p' "$OUT/$name.txt" 2>/dev/null || true)
  printf '%-14s %-14s %s\n' "$name" "$(expected "$name")" "${here:--}"
done
