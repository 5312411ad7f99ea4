"""Whole clusters in one process on virtual time, from one seed; and every schedule of a few cores.

Five rooms, each knows those before it: doors (time, chance, network, disk), judges (what must hold), faults (what goes
wrong), lives (a cluster, its clients, a life and many), and explorer, which knows cores alone.
"""
