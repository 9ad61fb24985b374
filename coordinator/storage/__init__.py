"""RocksDB: the engine, the layout of keys, the state store with its snapshots."""
