#!/bin/sh
# Hands out what is left of the boots before, which ended without warning, and
# runs until the power is cut.
set -eu
boot=$(cat /proc/sys/kernel/random/boot_id)

# bootrace compresses the logs of earlier boots meanwhile: one that goes while
# it is copied is there under its new name.
hand_out() {
	rm -rf /lab/out/logs
	mkdir /lab/out/logs
	find /var/lib/bootrace -type f \( -name '*.jsonl' -o -name '*.jsonl.zst' \) ! -name "$boot.*" -exec cp -t /lab/out/logs {} +
}
until hand_out; do sleep 1; done
bootrace boots || [ $? -ge 3 ] # what it comes to is for the test to say
echo "handed out after $boot" >/dev/console
exec sleep infinity
