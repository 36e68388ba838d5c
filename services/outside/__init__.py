"""Simulated outside parties: processes with ledgers of their own, which import nothing of Libretto."""
