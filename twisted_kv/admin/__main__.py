"""``python -m twisted_kv.admin``: the command twisted-kv on this very interpreter."""

from twisted_kv.admin.cli import main

main()
