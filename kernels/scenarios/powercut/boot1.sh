#!/bin/sh
# The host is set up; from the next boot on its power is cut.
set -eu
systemctl enable -q heartbeat.service
sync
