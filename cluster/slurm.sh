#!/usr/bin/env bash
# A study on SLURM: starts Ray on the nodes of the job, runs a verb of tis-ray there, and ends Ray.
#
#   source .venv/bin/activate      # SLURM takes this environment along; every node must see it
#   sbatch cluster/slurm.sh run --config study.yaml --set runs=/shared/me/runs --set artifacts=/shared/me/artifacts
#
# Runs and artifacts are in a folder that all nodes mount, or in a bucket. Options of sbatch go before the script:
# sbatch --nodes 8 --gpus-per-node 4 cluster/slurm.sh run ...
#SBATCH --job-name=tis-ray
#SBATCH --output=tis-ray-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=24:00:00
# Two minutes before its time is up the study stops and the job queues again; the study goes on where it was. The
# same when the nodes are wanted for a more urgent job.
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

command -v tis-ray >/dev/null || {
  echo "slurm.sh: there is no tis-ray on the PATH; activate its environment, then sbatch" >&2
  exit 2
}

# Who has the token can run code on the nodes, so that each job has its own, which only its user can read.
token=$HOME/.ray/slurm-$SLURM_JOB_ID.token
mkdir -p "$HOME/.ray"
(umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token RAY_USAGE_STATS_ENABLED=0

# This script runs on the first node. Where nodes have several networks, set RAY_HEAD_IP before sbatch.
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=${RAY_HEAD_IP:-$(hostname -I | cut -d' ' -f1)}
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node do not meet
export RAY_ADDRESS=$address:$port

finish() {
  trap - EXIT
  # shellcheck disable=SC2046 # one word a process
  kill $(jobs -p) 2>/dev/null || true
  wait
  rm -f "$token"
}
trap finish EXIT

# The head does no work: it holds Ray's state. A worker runs on every node, on this one, too.
ray=(ray start --block --object-store-memory 2000000000 --min-worker-port 0 --max-worker-port 0)
srun --overlap --nodes 1 --ntasks 1 --nodelist "${nodes[0]}" \
  "${ray[@]}" --head --node-ip-address "$address" --port "$port" --num-cpus 0 --num-gpus 0 \
  --include-dashboard false --temp-dir "/tmp/ray-$SLURM_JOB_ID-head" &
for _ in {1..60}; do
  ray health-check >/dev/null 2>&1 && break # a worker that comes too early gives up
  sleep 2
done
srun --overlap --nodes "${#nodes[@]}" --ntasks "${#nodes[@]}" --ntasks-per-node 1 \
  --cpus-per-task "$SLURM_CPUS_PER_TASK" \
  "${ray[@]}" --address "$RAY_ADDRESS" --num-cpus "$SLURM_CPUS_PER_TASK" \
  --temp-dir "/tmp/ray-$SLURM_JOB_ID" &

# A study lays out its work over the nodes that it finds, so wait until all are there.
python - "${#nodes[@]}" <<'END'
import sys, time, ray

wanted, end = int(sys.argv[1]), time.monotonic() + 300
there = 0
while there < wanted:
    if time.monotonic() > end:
        sys.exit(f"slurm.sh: {there} of {wanted} nodes have joined Ray within 5 minutes; see the lines above")
    try:
        if not ray.is_initialized():
            ray.init(logging_level="ERROR", log_to_driver=False)
        there = sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in ray.nodes())
    except ConnectionError:
        pass
    time.sleep(1)
END

again() {
  kill -TERM "$study" 2>/dev/null || true
  wait "$study" || true
  finish
  scontrol requeue "$SLURM_JOB_ID"
  exit 143
}
trap again TERM

tis-ray "$@" &
study=$!
wait "$study"
