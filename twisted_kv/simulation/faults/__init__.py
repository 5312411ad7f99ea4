"""What goes wrong, when and for how long. Knows nothing of what must hold."""
