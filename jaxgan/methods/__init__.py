"""Systems: one file each, from Config to train step; pure functions only."""
