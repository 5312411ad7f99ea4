"""What people type: the twisted-kv command."""
