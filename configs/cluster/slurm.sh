#!/bin/bash
# A run on a Slurm cluster. From this repository, installed by `make install` on a disk that all nodes share:
#   sbatch --nodes=8 configs/cluster/slurm.sh /shared/laion.yaml
# `root` and the inputs of the configuration are absolute paths on a shared disk, or s3:// or gs://. A job that ends
# early is submitted again with the same command and resumes; with --requeue Slurm does so after a preemption.
#SBATCH --job-name=cpp
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --mem=100G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --exclusive            # at its end Ray stops all Ray processes of the user on a node
set -euo pipefail
config=$1
export PATH=$PWD/.venv/bin:$PATH                  # symmetric-run calls ray
gpus=${SLURM_GPUS_ON_NODE:-0}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)   # sed reads to the end: a closed pipe is an error here
address=$head:$((20000 + SLURM_JOB_ID % 10000))   # a port of its own for every job on a node

export RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN

# Ray starts on every node and stops with the run, which the first node drives; two of its cores are left to the driver.
srun --kill-on-bad-exit=1 ray symmetric-run \
  --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$gpus" --include-dashboard=false -- \
  python -m pipelines run "$config" \
  --set resources.ray_address="$address" \
  --set resources.workers="$SLURM_JOB_NUM_NODES" \
  --set resources.cpus=$((SLURM_CPUS_PER_TASK > 2 ? SLURM_CPUS_PER_TASK - 2 : 1)) \
  --set resources.gpus=$((gpus > 0))
