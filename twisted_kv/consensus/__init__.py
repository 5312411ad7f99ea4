"""The order of commands. Pure: knows no time, disk, network, nor what a command means."""
