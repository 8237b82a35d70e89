"""RMS norm over the full width, then RoPE per head, of q and k in one pass (what Wan's self-attention starts with)."""
