"""Flow matching: schedule, solvers, guidance, anchors."""
