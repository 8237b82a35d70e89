"""Cross-Task Synergy training (paper 3.2.2)."""
