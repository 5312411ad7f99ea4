"""Coverage-guided fuzzing of the pure decoders with atheris, where it is installed (optional; extra ``fuzz``).

libFuzzer mutates; the judges are those of the targets "banana" and "codec". It never returns, so it runs in a
process of its own; a finding ends that process with a status, and libFuzzer writes the input beside it.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
from pathlib import Path
from random import Random

from fuzz_targets import Target

SEEDS = 200
LENGTH_MAX = 4096


def there() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def guided(kind: type[Target], count: int, seed: int, directory: Path) -> int:
    """Feed so many mutated inputs to a target that takes bytes.

    Args:
        directory: for the corpus and for what fails; made if it is not there.
    Returns:
        the exit status of the process: 0 when nothing was found.
    """
    corpus = directory / f"{kind.name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_fuzz, args=(kind, count, seed, directory, corpus))
    process.start()
    process.join()
    return process.exitcode or 0


def _fuzz(kind: type[Target], count: int, seed: int, directory: Path, corpus: Path) -> None:
    import atheris

    target = kind(seed)
    random = Random(seed)
    names = sorted(target.codecs) if hasattr(target, "codecs") else []
    for number in range(SEEDS):
        given = target.draw(random)
        data = bytes([names.index(given[0])]) + given[1] if names else given[0]
        (corpus / f"drawn-{number}").write_bytes(data[:LENGTH_MAX])

    def one(data: bytes) -> None:
        if names:
            if data:
                target.feed([names[data[0] % len(names)], data[1:], False])
        else:
            target.feed([data, 2, 1 + len(data) // 3])

    atheris.instrument_func(type(target).feed)
    if not names:
        from twisted_kv.transport.banana import Decoder

        for name in ("feed", "_decode", "_opened", "_received"):
            setattr(Decoder, name, atheris.instrument_func(getattr(Decoder, name)))
    else:
        from twisted_kv.codec import Codec

        Codec.decode = atheris.instrument_func(Codec.decode)  # type: ignore[method-assign]
    os.chdir(directory)
    options = [f"-runs={count}", f"-seed={seed & 0xFFFFFFFF or 1}", f"-max_len={LENGTH_MAX}", "-rss_limit_mb=2048"]
    atheris.Setup([sys.argv[0], *options, "-timeout=5", "-print_final_stats=1", "-verbosity=0", str(corpus)], one)
    atheris.Fuzz()
