"""``python tests/chaos/run.py --minutes 10 --seed 7``: real processes under fire (chaos_command, docs/chaos.md)."""

from chaos_command import main

if __name__ == "__main__":
    main()
