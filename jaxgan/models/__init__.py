"""Networks: one file per family; linen modules only, no loss, no optimiser."""
