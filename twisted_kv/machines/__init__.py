"""The meaning of commands. Pure: knows no time, disk, network, nor how an order was reached."""
