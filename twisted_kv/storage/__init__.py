"""Two SQLite files per replica, and the door to the disk.

Keeps what a replica must not forget; knows neither the protocol that filled the log nor the meaning of the rows.
Every call here blocks: an IDisk decides on which thread.
"""
