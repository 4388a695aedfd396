#!/bin/bash
# All trainings and prunings of this study, from the finished runs of 4 and 8 heads of
# experiments/head_count. A command that was interrupted resumes when the script is started again.
set -e
STUDY=runs/head_count
OUT=runs/which_heads
TENTH="trainer.max_steps=150 trainer.val_check_interval=150 optimizer.warmup_steps=15
       optimizer.learning_rate=0.002 optimizer.muon_learning_rate=0.0015"

# further FROM TO [KEY=VALUE...]: a tenth of the steps more, from the weights of a finished run
further() {
  local from=$1 to=$2
  shift 2
  headcount train "$from/config.yaml" "model.start_from=$from" "tokenizer.path=$from/tokenizer.json" \
    "run.folder=$to" $TENTH "$@"
}

mkdir -p $OUT
for seed in 0 1 2; do
  four=$(echo $STUDY/num_heads=4,seed=$seed-????????)
  eight=$(echo $STUDY/num_heads=8,seed=$seed-????????)

  # Four heads per block, trained from scratch, with as many steps as what is pruned and tuned.
  further "$four" $OUT/scratch-tuned-$seed

  # 36 of 72 heads, learned in a tenth of the steps by top-k gates; the others are removed.
  further "$eight" $OUT/gated-$seed heads.gates=top_k heads.keep=36
  [ -e $OUT/gates-$seed/scores.json ] || headcount prune $OUT/gated-$seed $OUT/gates-$seed --by gates

  # The control: 36 of 72 heads by chance, before and after a tenth of the steps.
  [ -e $OUT/random-$seed/scores.json ] ||
    headcount prune "$eight" $OUT/random-$seed --keep 36 --by random --seed $seed
  further $OUT/random-$seed $OUT/random-tuned-$seed
done
