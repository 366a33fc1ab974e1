"""The native core: records in raw memory, the dispatch table, the graph and its engine. README.md opens the door."""
