"""The processes that ask: each takes a task as JSON, and says the lines that ``closed_loop`` describes."""
