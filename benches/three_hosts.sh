#!/usr/bin/env bash
# Runs one federation on three hosts, each of which alone can read the file of its client, and in one process that has
# all three, and compares adapters and scores byte for byte; each is evaluated on rows of its own. After the first round
# all end, and go on from a checkpoint, of which each has its part on a disk of its own. Hosts are network namespaces at
# one switch, and each has mounts of its own: benches/three_hosts.sh (as root; PYTHON=the Python that has declora).
set -euo pipefail
python=$(command -v "${PYTHON:-python}")
out=$(mktemp -d)
export python out
settings=(--clients 3 --local-epochs 1 --eval-every 1 --schedule constant --warmup 0 --batch-size 8 --codec q4+choco --topology complete --weights samples
    --eval-data held-out --eval-fraction 0.25 --group-size 1)

cleanup() {
    for name in 0 1 2 switch; do ip netns del "declora-$name" 2>/dev/null || true; done
    rm -rf "$out"
}
trap cleanup EXIT

# Texts of unlike numbers and classes, with a word of its own in each row of a client.
"$python" - "$out" <<'PYTHON'
import csv, pathlib, sys
from declora.data import load

out, data = pathlib.Path(sys.argv[1]), load("stdlib-docstrings")
names, rows = data.label_names, list(zip(data.train["text"][:], data.train["label"][:]))

def write(path, chosen, word=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text + word, names[label]) for text, label in chosen)])

for client, count in enumerate((24, 40, 56)):
    own = [row for row in rows if row[1] != client][100 * client :][:count]
    for place in (f"host{client}", "one"):
        write(out / place / str(client) / "train.csv", own, f" onlyathost{client}")
PYTHON

ip netns add declora-switch
ip -n declora-switch link add bridge type bridge
ip -n declora-switch link set bridge up
for host in 0 1 2; do
    ip netns add "declora-$host"
    ip -n "declora-$host" link add eth1 type veth peer name "port$host" netns declora-switch
    ip -n declora-switch link set "port$host" master bridge up
    ip -n "declora-$host" addr add "10.77.1.1$host/24" dev eth1
    ip -n "declora-$host" link set eth1 up
    ip -n "declora-$host" link set lo up
done
mkdir "$out/data" "$out/runs" "$out"/disk{0,1,2}
for host in 0 1 2; do
    # A host has its own folder at the places of data and runs, and nothing where the folders of all are.
    RANK=$host WORLD_SIZE=3 MASTER_ADDR=10.77.1.10 MASTER_PORT=29500 GLOO_SOCKET_IFNAME=eth1 HOST=$host \
        ip netns exec "declora-$host" unshare --mount bash -euc '
        mount --bind "$out/host$HOST" "$out/data"
        mount --bind "$out/disk$HOST" "$out/runs"
        for place in host0 host1 host2 one disk0 disk1 disk2; do mount -t tmpfs none "$out/$place"; done
        [ "$(cat "$out"/*/*/train.csv | grep -o "onlyathost[0-9]" | sort -u)" = "onlyathost$HOST" ]
        "$python" -m declora simulate --data "$out/data/{client}/train.csv" "$@" --rounds 1 --checkpoint-every 1 \
            --out "$out/runs/run" --quiet
        "$python" -m declora resume "$out/runs/run" --rounds 2 --quiet
        ' hosts "${settings[@]}" &
done
wait -n && wait -n && wait -n
"$python" -m declora simulate --data "$out/one/{client}/train.csv" "${settings[@]}" --rounds 2 --out "$out/whole" --quiet
diff -r "$out/disk0/run/adapters" "$out/whole/adapters"
scores() { grep -o '"\(average\|clients\)_[a-z_]*": [^,}]*' "$out/$1/metrics.jsonl"; }
diff <(scores disk0/run) <(scores whole)
scores whole | grep -q average_accuracy
[ "$(cd "$out" && ls -d disk*/run/checkpoints/event-00000002*)" = "disk0/run/checkpoints/event-00000002
disk1/run/checkpoints/event-00000002.rank-0001.safetensors
disk2/run/checkpoints/event-00000002.rank-0002.safetensors" ]
if grep -rlE 'onlyathost[12]' "$out/disk0"; then echo "text of another host is in the run folder of the first"; exit 1; fi
echo "three hosts, each with its own file: the adapters and scores of one process, byte for byte, gone on with from checkpoints on three disks; no text left its host"
