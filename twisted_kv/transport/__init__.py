"""The network door: Perspective Broker. Knows bytes, links and budgets; not what a body means."""
