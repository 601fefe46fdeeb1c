#!/usr/bin/env bash
# A whole Slurm on loopback: munged, mariadbd, slurmdbd, slurmctld and one slurmd with two fake GPUs, all of it under
# one folder and on ports of its own. Needs root and Debian's slurmctld slurmd slurmdbd slurm-client munge mariadb-server.
#
#   slurm_loopback.sh start FOLDER    writes FOLDER/environment, to be sourced by who asks this Slurm
#   slurm_loopback.sh stop FOLDER     ends what was started, by the process ids that it wrote
set -euo pipefail

action=$1
folder=$(realpath -m "$2")
host=$(hostname -s)

await() { # SECONDS COMMAND...: until the command succeeds
    local limit=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < limit)) || { echo "waited in vain for: $*" >&2; return 1; }
        sleep 0.2
    done
}

start() {
    mkdir -p "$folder"/{run,state,spool,db,log}
    chmod 755 "$folder" "$folder/run"
    port=$((20000 + $$ % 20000))
    mknod "$folder/gpu0" c 1 3
    mknod "$folder/gpu1" c 1 3

    dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none
    chmod 400 "$folder/munge.key"
    munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged" --seed-file="$folder/munge.seed"

    mariadb-install-db --user=root --datadir="$folder/db" --auth-root-authentication-method=normal >"$folder/log/install" 2>&1
    mariadbd --no-defaults --user=root --datadir="$folder/db" --socket="$folder/run/db" --port=$((port + 3)) \
        --bind-address=127.0.0.1 --pid-file="$folder/run/mariadbd.pid" --innodb-buffer-pool-size=64M \
        >"$folder/log/mariadbd" 2>&1 &
    await 30 mariadb --no-defaults --socket="$folder/run/db" --execute 'select 1'
    mariadb --no-defaults --socket="$folder/run/db" --execute \
        "create database slurm_acct_db; create user slurm@'127.0.0.1' identified by 'loopback';
         grant all on slurm_acct_db.* to slurm@'127.0.0.1'"

    cat >"$folder/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((port + 2))
SlurmUser=root
LogFile=$folder/log/slurmdbd
PidFile=$folder/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((port + 3))
StorageUser=slurm
StoragePass=loopback
StorageLoc=slurm_acct_db
CONF
    chmod 600 "$folder/slurmdbd.conf"
    cat >"$folder/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
MinJobAge=10
KillWait=2
JobRequeue=0
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 2))
AccountingStoragePass=$folder/run/munge
JobAcctGatherType=jobacct_gather/none
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 RealMemory=65536 Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE OverSubscribe=NO
CONF
    printf 'Name=gpu File=%s/gpu0\nName=gpu File=%s/gpu1\n' "$folder" "$folder" >"$folder/gres.conf"
    printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/cgroup.conf"
    echo "export SLURM_CONF=$folder/slurm.conf" >"$folder/environment"
    export SLURM_CONF="$folder/slurm.conf"

    slurmdbd -D >"$folder/log/slurmdbd.out" 2>&1 &
    await 30 sacctmgr --noheader list cluster
    sacctmgr --immediate add cluster loopback >/dev/null 2>&1 || true
    slurmctld -D -c >"$folder/log/slurmctld.out" 2>&1 &
    slurmd -D -f "$folder/slurm.conf" -N "$host" >"$folder/log/slurmd.out" 2>&1 &
    await 40 sh -c 'sinfo --noheader --format %T | grep -qx idle'
}

stop() {
    for name in slurmd slurmctld slurmdbd mariadbd munged; do
        pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || true
        await 20 sh -c "! kill -0 $pid" || kill -9 "$pid" 2>/dev/null || true
    done
}

"$action"
