"""The four doors as a seed has them: when things happen, what arrives, what is on a disk. Knows no replica."""
