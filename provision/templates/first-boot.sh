#!/bin/sh
# CUMULUS-AUTOPROVISIONING
# First boot of {{ switch.name }} ({{ switch.role }} of {{ fabric.name }}). It may run again: every step leads to the same end.
set -eu
hostname {{ switch.name }}
echo {{ switch.name }} > /etc/hostname
logger -t first-boot "{{ switch.name }} was provisioned by {{ server.url }}" || true
