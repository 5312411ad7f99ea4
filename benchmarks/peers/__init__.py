"""The systems that are measured, a module each: how it is started, what it promises, how it is asked."""
