#!/bin/sh
# Says of a job on Slurm what Snakemake asks, also where no accounts are kept: success, failed or running.
said="$(scontrol --oneliner show job "$1" 2>&1)"
case "$said" in
*" JobState=COMPLETED "*) echo success ;;
*" JobState=BOOT_FAIL "* | *" JobState=CANCELLED "* | *" JobState=DEADLINE "* | *" JobState=FAILED "* | \
    *" JobState=NODE_FAIL "* | *" JobState=OUT_OF_MEMORY "* | *" JobState=TIMEOUT "* | *"Invalid job id"*) echo failed ;;
*) echo running ;; # waiting, given back by a node that failed, or the controller does not answer
esac
