"""From files to batches; numpy only."""
