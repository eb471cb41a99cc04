"""The ledger: one process that numbers the audit log and projects the engine's journal into SQL."""
