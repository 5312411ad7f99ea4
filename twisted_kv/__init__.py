"""twisted-kv: a sharded, replicated, linearizable key/value store on Twisted."""

from twisted_kv._version import __version__

__all__ = ["__version__"]
