#!/usr/bin/env bash
# Runs one federation on two hosts, which are network namespaces joined by a cable, and in one process, and compares the
# adapters byte for byte: benches/two_hosts.sh [--SETTING VALUE ...] (as root; PYTHON=the Python that has declora).
# RATE=4mbit makes the cable as slow, for a look at what a network costs and what --overlap hides of it.
set -euo pipefail
python=$(command -v "${PYTHON:-python}")
out=$(mktemp -d)
settings=(--clients 4 --rounds 2 --local-steps 2 --eval-samples 40 --client-eval-samples 0 --group-size 2 "$@")

cleanup() { ip netns del declora-1 2>/dev/null || true; ip netns del declora-2 2>/dev/null || true; rm -rf "$out"; }
trap cleanup EXIT
ip link add declora-v1 type veth peer name declora-v2
for host in 1 2; do
    ip netns add "declora-$host"
    ip link set "declora-v$host" netns "declora-$host"
    ip -n "declora-$host" addr add "10.77.0.$host/24" dev "declora-v$host"
    ip -n "declora-$host" link set "declora-v$host" up
    ip -n "declora-$host" link set lo up
    [ -z "${RATE:-}" ] || ip netns exec "declora-$host" tc qdisc add dev "declora-v$host" root tbf rate "$RATE" burst 32kb latency 400ms
done
start=$(date +%s)
for host in 1 2; do
    GLOO_SOCKET_IFNAME="declora-v$host" ip netns exec "declora-$host" "$python" -m torch.distributed.run --nnodes=2 \
        --node-rank=$((host - 1)) --nproc-per-node=1 --master-addr=10.77.0.1 --master-port=29500 \
        -m declora simulate "${settings[@]}" --out "$out/hosts" --quiet &
done
wait -n && wait -n
echo "two hosts: $(($(date +%s) - start)) s, with all that is loaded before the first round"
"$python" -m declora simulate "${settings[@]}" --out "$out/one" --quiet
diff -r "$out/hosts/adapters" "$out/one/adapters" && echo "two hosts: the adapters of one process, byte for byte"
