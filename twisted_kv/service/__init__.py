"""The twistd services: read settings, choose concretes, start and stop in order."""
