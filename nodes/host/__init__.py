"""The only place that touches ComfyUI's own classes."""
