"""Raft (Ongaro & Ousterhout 2014; Ongaro's thesis), behind the eight verbs."""
