#!/usr/bin/env bash
# The sequence of the thesis's code, in its order and under its names, one task a command. docs/from-the-original.md
# says what each command stands for.
#
#     examples/original.sh                                  # reach and push
#     examples/original.sh reach-v2:30000 push-v2:100000    # TASK:STEPS, the most environment steps of its expert
#
# The first task's student is trained at the end. Environment variables:
#   RUN, ROOT       the run's folder is $ROOT/$RUN (runs/original)
#   OPTIONS         flags of all commands (--config examples/original.yaml)
#   STUDENT_STEPS   most environment steps of the student (100000)
#   COLLECTIVERL    the command (collectiverl), such as .venv/bin/collectiverl
set -euo pipefail
cd "$(dirname "$0")/.."

ROOT=${ROOT:-runs} RUN=${RUN:-original}
read -ra collectiverl <<<"${COLLECTIVERL:-collectiverl}"
read -ra more <<<"${OPTIONS:---config examples/original.yaml}"
options=(--root "$ROOT" --run "$RUN" "${more[@]}")
[ $# -gt 0 ] || set -- reach-v2:100000 push-v2:900000
tasks=("${@%%:*}")

step() { "${collectiverl[@]}" "$@" "${options[@]}"; }

evaluate() { # NAME FOLDER TASK ...
    "${collectiverl[@]}" evaluate_collective_transformer "$ROOT/$RUN$2" "${@:3}" --json "$ROOT/$RUN/evaluated/$1.json"
}

for task in "$@"; do step train_task "${task%%:*}" "${task##*:}"; done
for task in "${tasks[@]}"; do evaluate "expert_$task" "/model/${task/%-v2/-v3}/seed_0" "$task"; done
for task in "${tasks[@]}"; do step online_distill "$task"; done
for task in "${tasks[@]}"; do step split_buffer "$task"; done
for task in "${tasks[@]}"; do step split_online_buffer "$task"; done
step train-transformer # there: Transformer_RNN/dataset_tf.py and RepresentationTransformerWithCLS.py
step distill_collective_transformer
evaluate collective "" "${tasks[@]}"
step train_student "${tasks[0]}" "${STUDENT_STEPS:-100000}"
evaluate student "/student/${tasks[0]/%-v2/-v3}/seed_1" "${tasks[0]}"
